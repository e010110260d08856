"""Waiting without trio for a moment: what comes next mostly comes soon.

To wait through trio costs a pass of its loop, several times what it takes to handle an event on a
machine that has been idle for a millisecond. So whoever has just had an event waits here first, in
the kernel, for its own descriptor and for trio's at once, and goes round through trio when trio has
something to do or nothing comes. Nobody is kept waiting by that.

Trio does not offer what it waits for: its descriptor, and its next deadline (which its statistics
tell, after counting all tasks). Where these cannot be found, nobody lingers.
"""

import enum
import select
from collections.abc import Callable
from typing import Final, NamedTuple, Self

import trio

LINGER_S: Final = 0.01
"""How long it takes to fall asleep. An event that comes by itself costs a second wake-up then."""

_MS_PER_S: Final = 1_000


class Found(enum.Enum):
    """How a moment has ended."""

    OURS = enum.auto()
    TRIOS = enum.auto()
    """Trio has something to do, and perhaps we have too."""
    NOTHING = enum.auto()


class _Ready(trio.abc.Instrument):
    """The tasks that are about to run, also those of the pass that is under way."""

    def __init__(self) -> None:
        self.tasks: set[trio.lowlevel.Task] = set()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.tasks.add(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.tasks.discard(task)


class Linger:
    """Made inside trio, for one descriptor; a context, because it looks on while trio runs."""

    def __init__(self, descriptor: int) -> None:
        self._ready = _Ready()
        self._trios = _inside_of_trio()
        if self._trios is not None:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
            self._poll.register(self._trios.descriptor, select.POLLIN)

    def __enter__(self) -> Self:
        trio.lowlevel.add_instrument(self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self._ready)

    def wait(self) -> Found:
        """Wait until the descriptor is readable, trio has something to do, or for `LINGER_S`."""
        trios = self._trios
        if trios is None or self._ready.tasks:
            return Found.TRIOS
        until_due_s = trios.next_deadline() - trio.current_time()
        if until_due_s <= 0:
            return Found.TRIOS
        ready = self._poll.poll(min(LINGER_S, until_due_s) * _MS_PER_S)
        if (trios.descriptor, select.POLLIN) in ready:
            return Found.TRIOS
        return Found.OURS if ready else Found.NOTHING


class _Inside(NamedTuple):
    """What trio waits for: something at this descriptor, and this moment on its clock.

    A thread that has something for trio wakes it through the descriptor.
    """

    descriptor: int
    next_deadline: Callable[[], float]


def _inside_of_trio() -> _Inside | None:
    """Of the run under way; None in a version of trio that has other words for it."""
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT

        runner = GLOBAL_RUN_CONTEXT.runner
        return _Inside(runner.io_manager._epoll.fileno(), runner.deadlines.next_deadline)
    except (ImportError, AttributeError):
        return None
