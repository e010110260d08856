"""The reactor: one trio task that moves bytes for every connection.

It waits on an epoll descriptor of its own and runs the ready callbacks in a batch, so a
connection costs no task switch while bytes merely move; while they move often, it does not even
cost a pass of trio's loop to wait for them (`linger`). Callbacks are synchronous, must not
block and must treat the event mask as a hint: the interest may have changed since it was polled.
The reactor knows nothing of HTTP, peers or pins.

What all the events of a batch have led to is done once, behind them (`behind`): so it is done in
the same pass of the event loop as they, and the busier a node is, the less often.

Epoll is used level-triggered: a callback may read once and return, and is called again while
more is there. That gives fairness between connections for free, and no edge can be lost.
"""

import contextlib
import select
from collections.abc import Callable
from typing import Final

import trio

from meshlb.net.deadlines import Deadlines, Expiring
from meshlb.net.last_resort import end_failed
from meshlb.net.linger import Found, Linger
from meshlb.net.pipe import open_pipe

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR | select.EPOLLHUP
"""Always reported, asked for or not."""

BATCH_EVENTS_MAX: Final = 512
BUSY_EVENTS_MIN: Final = 8
"""After a batch of so many there is no need to wait for more."""

RATION_EVENTS_MAX: Final = 32
"""In a batch, of those descriptors whose events cost as much as hundreds of others."""

LOOK_ASIDE_S_MAX: Final = 0.001
"""How long a busy reactor goes on before it looks whether trio has something to do."""

Handler = Callable[[int], None]
"""Called with the event mask, a hint; it, or what it is a method of, is aborted if it raises."""


class Reactor:
    """Owns the epoll descriptor, the deadlines and a pipe; `close` releases them.

    Attributes:
        batch: counts the batches; what an event of this one tells of happened before it began.
        now: trio's clock in seconds, read once a batch.
        deadlines: where connections have their time-outs checked.
        pipe: for bulk from socket to socket; None where the system cannot do that.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._newcomers: set[int] = set()
        self._ration = select.epoll()
        self._rationed: set[int] = set()
        self._ration_fd = self._ration.fileno()
        self._epoll.register(self._ration_fd, READ)
        self._behind: list[Callable[[], None]] = []
        self._asleep: trio.CancelScope | None = None
        self.batch = 0
        self.now = trio.current_time()
        self.deadlines = Deadlines()
        self.pipe = open_pipe()

    def __len__(self) -> int:
        """The number of registered descriptors."""
        return len(self._handlers)

    def register(
        self, fd: int, handler: Handler, interest: int = READ, *, rationed: bool = False
    ) -> None:
        """Call `handler`, and nobody else, when `fd` is ready for `interest`, or broken.

        Args:
            fd: stays the caller's.
            handler: see `Handler`.
            interest: `READ`, `WRITE` or both; 0: only breakage.
            rationed: its events cost so much that few of their kind may come in a batch.
        """
        if fd in self._handlers and not rationed and fd not in self._rationed:
            self._epoll.modify(fd, interest)
        else:
            self.unregister(fd)
            if rationed:
                self._rationed.add(fd)
            self._epoll_of(fd).register(fd, interest)
            self._newcomers.add(fd)
        self._handlers[fd] = handler

    def hand_over(self, fd: int, handler: Handler) -> None:
        """Give the events of a registered descriptor to another handler."""
        self._handlers[fd] = handler

    def watch(self, fd: int, interest: int) -> None:
        """Change what a registered descriptor is watched for; 0 leaves only breakage."""
        self._epoll_of(fd).modify(fd, interest)

    def unregister(self, fd: int) -> None:
        """Forget a descriptor; call it before closing the socket. Unknown ones are ignored."""
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll_of(fd).unregister(fd)
            self._rationed.discard(fd)

    def _epoll_of(self, fd: int) -> select.epoll:
        return self._ration if fd in self._rationed else self._epoll

    def schedule(self, subject: Expiring, at: float) -> int:
        """Have the time-outs of `subject` checked at `at`, on the clock of `now`.

        Returns:
            Its tick, for `deadlines.forget`.
        """
        tick = self.deadlines.add(subject, at)
        if self._asleep is not None:
            self._asleep.deadline = self.deadlines.next_at
        return tick

    def behind(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, behind the events handled now or next; it must not raise."""
        self._behind.append(callback)
        if self._asleep is not None:
            self._asleep.cancel()

    def catch_up(self) -> None:
        """Set `now`, for a task that has waited and goes on with a connection."""
        self.now = trio.current_time()

    def close(self) -> None:
        """Release its descriptors; registered sockets stay open."""
        self._handlers.clear()
        self._ration.close()
        self._epoll.close()
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None

    async def run(self) -> None:
        """Serve until cancelled; a callback that raises is logged and its descriptor dropped."""
        look_aside_at = 0.0
        with Linger(self._epoll.fileno()) as linger:
            while True:
                done = self._serve()
                if done >= BUSY_EVENTS_MIN and self.now < look_aside_at:
                    continue
                if not done:
                    await self._sleep()
                elif self._behind or linger.wait() is Found.TRIOS:
                    await trio.lowlevel.checkpoint()
                look_aside_at = self.now + LOOK_ASIDE_S_MAX

    def _serve(self) -> int:
        """Handle what there is now; how much that was."""
        self._newcomers.clear()
        events = self._epoll.poll(0, BATCH_EVENTS_MAX)
        self.batch += 1
        self.now = now = trio.current_time()
        self._handle(events)
        # Behind the events: what has come in time counts, however late we look at it.
        if now >= self.deadlines.next_at:
            self.deadlines.expire(now)
        return len(events) + self._go_behind()

    def _handle(self, events: list[tuple[int, int]]) -> None:
        handlers, newcomers = self._handlers, self._newcomers
        for fd, event in events:
            handler = handlers.get(fd)
            if handler is None or fd in newcomers:
                if fd == self._ration_fd:
                    # The kernel tells of each in its turn, and not of all that wait every time.
                    self._handle(self._ration.poll(0, RATION_EVENTS_MAX))
                continue  # Closed in this batch, and perhaps reused since.
            try:
                handler(event)
            except Exception:
                self._end_failed(fd, handler)

    def _go_behind(self) -> int:
        if not self._behind:
            return 0
        callbacks, self._behind = self._behind, []
        for callback in callbacks:
            callback()
        return len(callbacks)

    async def _sleep(self) -> None:
        """Until there is an event, a time-out to check, or something to do behind."""
        with trio.CancelScope(deadline=self.deadlines.next_at) as self._asleep:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
        self._asleep = None

    def _end_failed(self, fd: int, handler: Handler) -> None:
        self.unregister(fd)
        owner = getattr(handler, "__self__", handler)
        if hasattr(owner, "abort"):
            end_failed(owner)
