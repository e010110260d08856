"""The reactor: one trio task that moves bytes for every connection.

It waits on an epoll descriptor of its own and runs the ready callbacks in a batch, so a
connection costs no task switch while bytes merely move. Callbacks are synchronous, must not
block and must treat the event mask as a hint: a descriptor that was closed and reused inside
one batch can get an event of its predecessor. The reactor knows nothing of HTTP or pins.

Epoll is used level-triggered: a callback may read once and return, and is called again while
more is there. That gives fairness between connections for free, and no edge can be lost.
"""

import contextlib
import select
from collections.abc import Callable

import structlog
import trio

from meshlb.proxy.deadlines import Deadlines

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP
"""Always reported, asked for or not."""

BATCH_EVENTS_MAX = 512
ROUNDS_BEFORE_CHECKPOINT = 8
"""Full batches handled in a row before other trio tasks get their turn."""

Handler = Callable[[int], None]
"""Called with the event mask, a hint."""

log = structlog.get_logger()


class Reactor:
    """Owns the epoll descriptor and the deadlines; `close` or the end of `run` releases them.

    Attributes:
        now: trio's clock in seconds, read once a batch.
        deadlines: where connections have their time-outs checked.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self.now = trio.current_time()
        self.deadlines = Deadlines()

    def __len__(self) -> int:
        """The number of registered descriptors."""
        return len(self._handlers)

    def register(self, fd: int, handler: Handler, interest: int = READ) -> None:
        """Call `handler` whenever `fd` is ready for `interest`, or broken."""
        self._handlers[fd] = handler
        self._epoll.register(fd, interest)

    def hand_over(self, fd: int, handler: Handler) -> None:
        """Give the events of a registered descriptor to another handler."""
        self._handlers[fd] = handler

    def watch(self, fd: int, interest: int) -> None:
        """Change what a registered descriptor is watched for; 0 leaves only breakage."""
        self._epoll.modify(fd, interest)

    def unregister(self, fd: int) -> None:
        """Forget a descriptor; call it before closing the socket. Unknown ones are ignored."""
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def close(self) -> None:
        """Release the epoll descriptor; registered sockets stay open."""
        self._handlers.clear()
        self._epoll.close()

    async def run(self) -> None:
        """Serve until cancelled; a callback that raises is logged and its descriptor dropped."""
        poll = self._epoll.poll
        handlers = self._handlers
        rounds = 0
        while True:
            events = poll(0, BATCH_EVENTS_MAX)
            self.now = now = trio.current_time()
            if now >= self.deadlines.next_at:
                self.deadlines.expire(now)
            if not events:
                rounds = 0
                with trio.move_on_after(max(0.0, self.deadlines.next_at - now)):
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                continue
            for fd, event in events:
                handler = handlers.get(fd)
                if handler is not None:
                    try:
                        handler(event)
                    except Exception:
                        self._drop(fd)
            rounds += 1
            if rounds == ROUNDS_BEFORE_CHECKPOINT:
                rounds = 0
                await trio.lowlevel.checkpoint()

    def _drop(self, fd: int) -> None:
        """A bug in a callback must cost one connection, never the node."""
        log.exception("reactor callback failed", fd=fd)
        handler = self._handlers.get(fd)
        self.unregister(fd)
        owner = getattr(handler, "__self__", None)
        if owner is not None:
            try:
                owner.abort()
            except Exception:
                log.exception("could not abort a failed connection", fd=fd)
