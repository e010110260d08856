"""Tunnels: bytes both ways after an upgrade, or of a TCP listener, in user space.

Two `TunnelEnd`s point at each other. A read goes straight into the peer's channel; while the peer
has a backlog this end is not read. A FIN is passed on once the bytes before it have gone, so a
half-closed tunnel goes on in its other direction. Knows nothing of what the bytes mean.

An idle tunnel is these three objects, its lease and two sockets: no task, no buffer.
"""

import fcntl
import socket
import termios
from typing import TYPE_CHECKING, Protocol, Self

from meshlb.model import SessionKey
from meshlb.net.reactor import BROKEN, READ, WRITE, Handler, Reactor
from meshlb.proxy.carried import Carried
from meshlb.proxy.stream import READ_BYTES, Stream

if TYPE_CHECKING:
    from meshlb.proxy.backend import Backend
    from meshlb.proxy.counters import ProxyCounters

RECHECK_S_MAX = 30.0
"""Tunnels are asked for their time-outs at least so often: those that have ended are held by the
wheel of time-outs until they are asked."""

BULKY_BYTES_MIN = READ_BYTES // 2
"""Who finds so much at a time reads on without copying it: one piece of TCP may be that large."""


class Lease:
    """What a tunnel holds while it lives; all of it outlives the process in a hand-over.

    Attributes:
        backend: whose connection it is.
        key: of the pin that is to be kept alive; None: there is none.
        ttl_s: the pin's idle lifetime.
        renew_every_s: how often the pin is renewed.
        idle_s: seconds without a byte in either direction after which the tunnel is closed.
        is_websocket: its bytes are frames.
        host: counts it, and is told once when it has ended.
    """

    __slots__ = ("backend", "host", "idle_s", "is_websocket", "key", "renew_every_s", "ttl_s")

    def __init__(
        self,
        backend: "Backend",
        *,
        key: SessionKey | None,
        ttl_s: float,
        renew_every_s: float,
        idle_s: float,
        is_websocket: bool,
        host: "Host",
    ) -> None:
        self.backend = backend
        self.key = key
        self.ttl_s = ttl_s
        self.renew_every_s = renew_every_s
        self.idle_s = idle_s
        self.is_websocket = is_websocket
        self.host = host


class Host(Protocol):
    """The listener that a tunnel came by."""

    name: str

    def tunnel_ended(self) -> None:
        """One of its tunnels is no more, or another process's."""
        ...


class Landlord(Protocol):
    """Who gave the leases."""

    @property
    def counters(self) -> "ProxyCounters":
        """Of the process."""
        ...

    def renew(self, lease: Lease) -> None:
        """The tunnel lives: so does its pin."""
        ...

    def release(self, tunnel: "Tunnel") -> None:
        """The tunnel has ended."""
        ...

    def recheck(self, tunnel: "Tunnel") -> None:
        """The tunnel's time-outs may have been forgotten."""
        ...


class TunnelEnd(Stream):
    """One of the two ends; `peer` is the other.

    Attributes:
        ended: it has sent its FIN.
        is_bulky: it has just sent more than messages mostly have.
        moved_bytes: read from it, and not yet counted by its tunnel.
        shut: the peer's FIN has been passed on to it.
    """

    __slots__ = ("ended", "is_bulky", "moved_bytes", "peer", "shut", "tunnel")

    moved_bytes: int
    ended: bool
    is_bulky: bool
    peer: "TunnelEnd"
    shut: bool
    tunnel: "Tunnel"

    @classmethod
    def of(cls, reactor: Reactor, stream: Stream) -> Self:
        """Take over the channel of `stream`, which is spent afterwards."""
        end = cls(reactor, stream._sock)
        end.ended = end.shut = end.is_bulky = False
        end.moved_bytes = 0
        end.take_over(stream)
        return end

    @classmethod
    def adopted(cls, reactor: Reactor, carried: Carried) -> Self:
        """Go on with an end of another process, after `Tunnel.go_on`."""
        end = cls(reactor, carried.sock)
        end.ended, end.shut, end.is_bulky = carried.ended, carried.shut, False
        end.backlog = bytearray(carried.backlog) or None
        end.progress_at = reactor.now - carried.silent_s
        end.moved_bytes = 0
        return end

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are as they are on the wire."""
        return type(self._sock) is socket.socket

    @property
    def is_in_hand(self) -> bool:
        """Whether all that has come from it, and is not the peer's yet, is in user space."""
        return True

    @property
    def is_read_out(self) -> bool:
        """Whether nothing that has come from it waits to be read."""
        return fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0") == b"\0\0\0\0"

    @property
    def may_move(self) -> bool:
        """Whether another process could go on with it."""
        return self.is_plain and self.is_in_hand

    def carried(self) -> Carried:
        """All that another process needs to go on with it."""
        assert isinstance(self._sock, socket.socket)
        silent_s = max(0.0, self._reactor.now - self.progress_at)
        return Carried(self._sock, bytes(self.backlog or b""), self.ended, self.shut, silent_s)

    @property
    def handler(self) -> Handler:
        """Itself: a bound method for each idle socket would be a tenth of all it takes."""
        return self

    def start(self) -> None:
        """Both ends are there: bytes may flow from this one."""
        self.watch_reading(not self.peer.backlog)

    def on_event(self, event: int) -> None:
        """Move one read's worth of bytes to the peer."""
        if event & WRITE:
            self.flush()
            if self.closed:
                return
        if event & READ or (event & BROKEN and self._interest & READ):
            self._relay_read()
        elif event & BROKEN:
            self.mute()

    @property
    def may_splice(self) -> bool:
        """Whether the kernel can take bytes from here to the peer as they are."""
        return self.is_plain and self.peer.is_plain and self._reactor.pipe is not None

    def _relay_read(self) -> bool:
        """Move one read's worth; False where there was nothing yet."""
        if self.is_bulky and self.may_splice:
            return self._splice()
        try:
            chunk = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            self.tunnel.abort()
            return True
        if not chunk:
            self._end()
            return True
        self.progress_at = self._reactor.now
        self.moved_bytes += len(chunk)
        self.is_bulky = len(chunk) >= BULKY_BYTES_MIN
        self._pass_on(chunk)
        return True

    def _splice(self) -> bool:
        """The same, without seeing the bytes: not to copy them is worth it for many only."""
        pipe = self._reactor.pipe
        assert pipe is not None
        try:
            moved, left = pipe.carry(self.fd, self.peer.fd)
        except BlockingIOError:
            self.is_bulky = False
            return False
        except OSError:
            self.tunnel.abort()
            return True
        if not moved:
            self._end()
            return True
        self.progress_at = self._reactor.now
        self.moved_bytes += moved
        self.is_bulky = moved >= BULKY_BYTES_MIN
        if left:
            self._pass_on(left)
        return True

    def _pass_on(self, chunk: bytes) -> None:
        if not self.peer.send(chunk):
            self.watch_reading(False)

    def _end(self) -> None:
        """This end has sent its FIN."""
        self.ended = True
        self.watch_reading(False)
        if not self.peer.backlog:
            self.peer.on_drained()

    def on_drained(self) -> None:
        """Everything the peer sent has gone out here: pass its FIN on, or read it again."""
        if not self.peer.ended:
            self.peer.watch_reading(True)
            return
        self.shutdown_writing()
        self.shut = True
        if self.peer.shut:
            self.tunnel.close()

    def on_broken(self) -> None:
        """A write failed: the other end must learn of it."""
        self.tunnel.abort()

    def abort(self) -> None:
        """End the tunnel as a broken one; the reactor's last resort too."""
        self.tunnel.abort()

    def settle(self) -> None:
        """Let the kernel go on where it can; nobody else moves the bytes, in user space."""

    def look(self) -> None:
        """Take note of what has moved without passing through here; nothing, in user space."""


class Tunnel:
    """A pair of ends, their lease and their time-out.

    Attributes:
        downstream: the end towards the client.
        upstream: the end towards the backend.
    """

    __slots__ = ("_landlord", "_renew_at", "closed", "downstream", "lease", "upstream")

    def __init__(
        self,
        landlord: Landlord,
        lease: Lease,
        *,
        downstream: TunnelEnd,
        upstream: TunnelEnd,
        reactor: Reactor,
    ) -> None:
        """Join two ends, which may have a backlog already."""
        self._landlord = landlord
        self.lease = lease
        self.closed = False
        self.downstream = downstream
        self.upstream = upstream
        downstream.tunnel = upstream.tunnel = self
        downstream.peer = upstream
        upstream.peer = downstream
        self._renew_at = reactor.now + lease.renew_every_s
        reactor.schedule(self, reactor.now + min(lease.idle_s, lease.renew_every_s, RECHECK_S_MAX))

    def start(self) -> None:
        """Let the bytes flow; the tunnel may have ended before this returns."""
        self.downstream.start()
        if not self.closed:
            self.upstream.start()

    def go_on(self) -> None:
        """Both ends were another process's: let the bytes flow again."""
        for end in (self.downstream, self.upstream):
            reads = not (end.ended or end.peer.backlog)
            end.open((READ if reads else 0) | (WRITE if end.backlog else 0))
        self.downstream.settle()
        self.upstream.settle()

    @property
    def is_plain(self) -> bool:
        """Whether nothing of it is encrypted by this process."""
        return self.downstream.is_plain and self.upstream.is_plain

    @property
    def may_move(self) -> bool:
        """Whether another process could go on with it."""
        return not self.closed and self.downstream.may_move and self.upstream.may_move

    def detach(self) -> None:
        """Stop: another process may go on with it."""
        self._account()
        self.closed = True
        self.downstream.detach()
        self.upstream.detach()

    def attach(self) -> None:
        """It has not: go on after `detach`."""
        self.closed = False
        self.downstream.attach()
        self.upstream.attach()
        self._landlord.recheck(self)

    def abandon(self) -> None:
        """It has: let go of both ends without a word."""
        self.downstream.abandon()
        self.upstream.abandon()
        self._landlord.release(self)

    def check_deadline(self, now: float) -> float | None:
        """Close an idle tunnel; renew the pin of one that lives."""
        if self.closed:
            return None
        self._account()
        lease = self.lease
        idle_at = max(self.downstream.progress_at, self.upstream.progress_at) + lease.idle_s
        if now >= idle_at:
            self.close()
            return None
        if now >= self._renew_at:
            self._renew_at = now + lease.renew_every_s
            self._landlord.renew(lease)
        return min(idle_at, self._renew_at, now + RECHECK_S_MAX)

    def close(self) -> None:
        """Close both ends in good order."""
        if self._finish():
            self.downstream.close()
            self.upstream.close()
            self._landlord.release(self)

    def abort(self) -> None:
        """Close both ends with a reset: one of them broke."""
        if self._finish():
            Stream.abort(self.downstream)
            Stream.abort(self.upstream)
            self._landlord.release(self)

    def _finish(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        self._account()
        return True

    def _account(self) -> None:
        """Add to the counters what moved since the last time."""
        self.downstream.look()
        self.upstream.look()
        counters = self._landlord.counters
        counters.relayed_up_bytes += self.downstream.moved_bytes
        counters.relayed_down_bytes += self.upstream.moved_bytes
        self.downstream.moved_bytes = self.upstream.moved_bytes = 0
