"""One end of a connection in the reactor: a non-blocking socket, a backlog, back-pressure.

The backlog holds what the kernel would not take; whoever feeds a stream stops reading its own
source while the backlog is not empty, so it stays below one read plus one head. A `Stream` knows
neither HTTP nor what is at its other end.
"""

import contextlib
import socket
from abc import ABC, abstractmethod
from typing import Final, Protocol

from meshlb.net.reactor import READ, WRITE, Handler, Reactor
from meshlb.net.sockets import RESET_ON_CLOSE

READ_BYTES: Final = 65_536
"""The most that one `recv` takes, and so the most that one event moves."""


class Channel(Protocol):
    """What a stream asks of its socket: a plain one, or one that encrypts on the way.

    A stream, and the tunnel that takes it over, use nothing else, so another channel only has to
    behave like a non-blocking socket: `BlockingIOError` where the kernel is not ready, `OSError`
    where the connection is lost, `b""` at the end. The reactor watches the descriptor: `recv` has
    to give out all that it holds, for the kernel does not announce it.
    """

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        ...

    def recv(self, size_bytes: int, flags: int = 0, /) -> bytes:
        """Up to about `size_bytes` of what the peer has sent."""
        ...

    def send(self, chunk: bytes | bytearray | memoryview, /) -> int:
        """How many bytes of `chunk` were taken; at least one."""
        ...

    def shutdown(self, how: int, /) -> None:
        """With `SHUT_WR`: state the end of what was sent."""
        ...

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """Of the socket below."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class Stream(ABC):
    """Base of everything that reads and writes one socket in the reactor.

    Subclasses implement `on_event`, `on_drained` and `on_broken`. The stream owns the socket.

    Attributes:
        backlog: bytes accepted by `send` that the kernel has not taken yet.
        progress_at: monotonic seconds of the last byte read or written.
    """

    __slots__ = (
        "_interest",
        "_reactor",
        "_sock",
        "_tick",
        "backlog",
        "closed",
        "fd",
        "muted",
        "progress_at",
    )

    def __init__(self, reactor: Reactor, sock: Channel) -> None:
        self._reactor = reactor
        self._sock = sock
        self.fd = sock.fileno()
        self.backlog: bytearray | None = None
        self.closed = False
        self.muted = False
        self.progress_at = reactor.now
        self._interest = 0
        self._tick = 0

    @abstractmethod
    def on_event(self, event: int) -> None:
        """The reactor's call; the mask is a hint."""

    def __call__(self, event: int) -> None:
        """The reactor's call, of a stream that is its own `handler`."""
        self.on_event(event)

    def on_drained(self) -> None:  # noqa: B027 - not everybody waits for it
        """The backlog has become empty: the source may be read again."""

    def on_broken(self) -> None:
        """A write failed; the stream is to be aborted."""
        self.abort()

    def check_deadline(self, now: float) -> float | None:
        """Act on time-outs; see `Deadlines`."""
        return None

    def check_at(self, at: float) -> None:
        """Have the time-outs checked at `at` as well, unless the stream is spent before."""
        self._tick = self._reactor.schedule(self, at)

    @property
    def handler(self) -> Handler:
        """What the reactor calls."""
        return self.on_event

    def open(self, interest: int = READ, *, rationed: bool = False) -> None:
        """Join the reactor; `rationed`: each event costs much."""
        self._interest = interest
        self._reactor.register(self.fd, self.handler, interest, rationed=rationed)

    def take_over(self, other: "Stream") -> None:
        """Continue with the registration, socket and backlog of `other`, which is then spent."""
        self._interest = other._interest
        self.backlog = other.backlog
        other.spend()
        self.fd = other.fd  # The number that is the reactor's key.
        self._reactor.hand_over(self.fd, self.handler)

    def spend(self) -> None:
        """Leave the socket and its registration to a successor."""
        self.closed = True
        self._reactor.deadlines.forget(self, self._tick)

    def watch_reading(self, wanted: bool) -> None:
        """Read (or stop reading) this stream; without a change it costs nothing. Ends `mute`."""
        interest = self._interest | READ if wanted else self._interest & ~READ
        if interest != self._interest:
            self._watch(interest)

    def _watch_writing(self, wanted: bool) -> None:
        if not self.muted:
            self._watch(self._interest | WRITE if wanted else self._interest & ~WRITE)

    def _watch(self, interest: int) -> None:
        """Change what the reactor reports; a muted stream comes back once it is to be read."""
        if interest == self._interest or self.closed:
            return
        self._interest = interest
        if not self.muted:
            self._reactor.watch(self.fd, interest)
        elif interest & READ:
            self.muted = False
            self._reactor.register(self.fd, self.handler, interest)

    def send(self, chunk: bytes) -> bool:
        """Write, or keep for later; False when the source has to stop (or all is lost)."""
        if self.backlog:
            self.backlog += chunk
            return False
        try:
            sent = self._sock.send(chunk)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.on_broken()
            return False
        if sent == len(chunk):
            return True
        self.backlog = bytearray(memoryview(chunk)[sent:])
        self._watch_writing(True)
        return False

    def stop_writing(self) -> None:
        """Nothing sent from now on can arrive: forget the backlog."""
        self.backlog = None
        self._watch_writing(False)

    def flush(self) -> None:
        """The socket can be written again: send the backlog on."""
        if not self.backlog:
            self._watch_writing(False)
            return
        try:
            sent = self._sock.send(self.backlog)
        except BlockingIOError:
            return
        except OSError:
            self.on_broken()
            return
        self.progress_at = self._reactor.now
        if sent < len(self.backlog):
            del self.backlog[:sent]
            return
        self.backlog = None
        self._watch_writing(False)
        self.on_drained()

    def mute(self) -> None:
        """Get no more events, not even breakage, until this stream is to be read again.

        A socket that was reset, or has sent and received its FIN, reports that for ever. It is
        muted while its last bytes wait for the other end to take those before them, or while
        the other end still has bytes to deliver.
        """
        if not self.muted:
            self.muted = True
            self._reactor.unregister(self.fd)

    def shutdown_writing(self) -> None:
        """Send a FIN; the caller has seen the backlog empty."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def drain(self) -> None:  # noqa: B027 - some are ended by others
        """The node is leaving: close now if nothing is in progress."""

    def detach(self) -> None:
        """Get no more events, with the socket open: another process may go on with it."""
        self.closed = True
        self._reactor.unregister(self.fd)

    def attach(self) -> None:
        """It has not: go on after `detach`."""
        self.closed = False
        if not self.muted:
            self._reactor.register(self.fd, self.on_event, self._interest)

    def abandon(self) -> None:
        """It has: after `detach`, let go of the socket without a word to its other end."""
        self._sock.close()

    @property
    def is_deciding(self) -> bool:
        """Whether what becomes of it is being decided elsewhere."""
        return False

    def park(self) -> None:  # noqa: B027 - some have nothing to begin
        """Another process may go on with the connection: begin nothing new on it."""

    def unpark(self) -> None:  # noqa: B027 - some have nothing to begin
        """This process goes on with it after all."""

    def cut(self) -> None:
        """The node stops: end now, as a failure if something is in progress."""
        self.abort()

    def close(self) -> None:
        """Leave the reactor and close the socket; the kernel delivers what it has taken."""
        if not self.closed:
            self.spend()
            self._reactor.unregister(self.fd)
            self._sock.close()

    def abort(self) -> None:
        """Close with a reset, so that the other end sees a broken transfer, not an end."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.close()
