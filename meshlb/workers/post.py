"""One post of the crew: the worker that is at it now, and what the member knows of it.

Owns the conversation with that worker from its start to its end. What it says is taken in as it
comes; where it makes no sense the worker is ended.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog
import trio

from meshlb.core.sticky.table import StickTable
from meshlb.errors import WorkerError, WorkerGoneError
from meshlb.workers.channel import Channel
from meshlb.workers.desk import Desk
from meshlb.workers.hire import Hire
from meshlb.workers.messages import (
    Accepting,
    Answer,
    Claim,
    Doubt,
    Loaded,
    Message,
    Obeyed,
    Plant,
    Ready,
    Seen,
    Setup,
    Tally,
    Touch,
)
from meshlb.workers.tally import WorkerTally, unpack_tally

MESSAGES_PER_TURN_MAX: Final = 64
"""What is taken in at a time, some milliseconds' work: a flood must not keep members waiting."""

TICK_S: Final = 1.0
SILENT_TICKS_MAX: Final = 10
"""Ticks in which a worker has said nothing: it is stuck, and ended."""

log = structlog.get_logger()


class Post:
    """A number, and whoever works there.

    Attributes:
        number: from 1.
        pid: of the worker; None while there is none.
        channel: to it.
        desk: takes in what it asks of the stick table.
        is_ready: it is set up.
        is_accepting: it lets clients in.
        seen: the serial of the latest states or settings that it goes by.
        tally: what it has counted.
        restarts: workers that have ended here.
        fault: what it said when it obeyed last; empty: that all is well.
        obeyed: set once it has obeyed, or has ended.
        tried: set once the first worker is ready or has ended.
        vacant: set once nobody works here, and nobody will.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid: int | None = None
        self.channel: Channel | None = None
        self.desk: Desk | None = None
        self.is_ready = self.is_accepting = False
        self.seen = -1
        self.tally = WorkerTally()
        self.restarts = 0
        self._silent_ticks = 0
        self.fault = ""
        self.obeyed = trio.Event()
        self.tried = trio.Event()
        self.vacant = trio.Event()
        self._hire: Hire | None = None

    async def employ(
        self,
        hire: Hire,
        *,
        setup: tuple[Setup, list[int]],
        first: list[Message],
        table: StickTable,
        now: Callable[[], float],
        doubt: Callable[[str, str], None],
        on_accepting: Callable[[], None],
    ) -> None:
        """Work with `hire` until it has ended, or makes no sense and is ended.

        Args:
            hire: knows nothing yet.
            setup: what it is told to begin with, and the descriptors that go with that.
            first: what it is told then.
            table: for its claims.
            now: table time.
            doubt: told of a pool and a backend that it could not reach.
            on_accepting: called once it lets clients in.
        """
        channel = Channel(hire.sock)
        desk = self.desk = Desk(table, now, partial(self._answer, channel))
        self._hire, self.pid, self.channel = hire, hire.pid, channel
        self._silent_ticks = 0
        channel.put(*setup)
        for message in first:
            channel.put(message)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.send_all)
                while True:
                    for number, message in enumerate(await channel.receive(), 1):
                        self._hear(message, desk, doubt, on_accepting)
                        if number % MESSAGES_PER_TURN_MAX == 0:
                            await trio.lowlevel.checkpoint()
        except* WorkerGoneError:
            pass
        except* WorkerError as group:
            log.error("a worker makes no sense", worker=self.number, reason=str(group.exceptions))
            hire.kill()
        finally:
            desk.close()
            channel.close()
            self.channel = self.desk = None
            self.tried.set()
            self.obeyed.set()

    def _hear(
        self,
        message: Message,
        desk: Desk,
        doubt: Callable[[str, str], None],
        on_accepting: Callable[[], None],
    ) -> None:
        """Take one in.

        Raises:
            WorkerError: it makes no sense.
        """
        self._silent_ticks = 0
        try:
            self._take_in(message, desk, doubt, on_accepting)
        except (ValueError, TypeError, LookupError) as error:
            raise WorkerError(f"{type(message).__name__}: {error}") from error

    def _take_in(
        self,
        message: Message,
        desk: Desk,
        doubt: Callable[[str, str], None],
        on_accepting: Callable[[], None],
    ) -> None:
        match message:
            case Claim() | Plant() | Touch():
                desk.hear(message)
            case Tally(counts):
                self.tally = unpack_tally(counts)
            case Doubt(pool, backend):
                doubt(pool, backend)
            case Seen(serial):
                self.seen = serial
            case Obeyed(fault):
                self.fault = str(fault)
                self.obeyed.set()
            case Loaded():
                pass
            case Ready():
                self.is_ready = True
                self.tried.set()
            case Accepting():
                self.is_accepting = True
                on_accepting()
            case _:
                raise WorkerError(f"a worker does not say {type(message).__name__}")

    def tell(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Say something to the worker, if there is one; one that does not listen is ended."""
        if self.channel is not None:
            try:
                self.channel.put(message, fds)
            except WorkerError as error:
                log.error("a worker is stuck", worker=self.number, reason=str(error))
                self.kill()

    def _answer(self, channel: Channel, answer: Answer) -> None:
        # A worker that does not read is found out by what it is told next.
        with contextlib.suppress(WorkerError):
            channel.put(answer)

    def leave(self) -> None:
        """The worker has ended."""
        self.pid = self._hire = None
        self.is_ready = self.is_accepting = False
        self.seen = -1
        self.tally = WorkerTally()
        self.restarts += 1

    def hush(self) -> None:
        """Hear the worker about the table no more."""
        if self.desk is not None:
            self.desk.close()

    def tick(self) -> None:
        """A moment has passed in which it should have said something."""
        self._silent_ticks += 1
        if self.is_ready and self._silent_ticks > SILENT_TICKS_MAX:
            log.error("a worker is stuck, and is ended", worker=self.number, pid=self.pid)
            self.kill()

    def kill(self) -> None:
        """End the worker at once, if there is one."""
        if self._hire is not None:
            self._hire.kill()
