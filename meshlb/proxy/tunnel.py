"""Tunnels: bytes both ways after an upgrade, or of a TCP listener, in user space.

Two `TunnelEnd`s point at each other. A read goes straight into the peer's socket; while the peer
has a backlog this end is not read. A FIN is passed on once the bytes before it have gone, so a
half-closed tunnel goes on in its other direction. Knows nothing of what the bytes mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from meshlb.net.reactor import BROKEN, READ, WRITE, Reactor
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.stream import READ_BYTES, Stream

RECHECK_S_MAX = 30.0
"""Tunnels are asked for their time-outs at least so often: those that have ended are held by the
wheel of time-outs until they are asked."""


@dataclass(slots=True)
class Lease:
    """What a tunnel holds while it lives.

    Attributes:
        idle_s: seconds without a byte in either direction after which it is closed.
        renew: called with monotonic seconds every `renew_every_s`, to keep the pin alive.
        release: called once when the tunnel has ended.
    """

    idle_s: float
    renew_every_s: float
    renew: Callable[[], None]
    release: Callable[["Tunnel"], None]


class TunnelEnd(Stream):
    """One of the two ends; `peer` is the other."""

    __slots__ = ("ended", "moved_bytes", "peer", "tunnel")

    moved_bytes: int
    ended: bool
    peer: "TunnelEnd"
    tunnel: "Tunnel"

    @classmethod
    def of(cls, reactor: Reactor, stream: Stream) -> Self:
        """Take over the socket of `stream`, which is spent afterwards."""
        end = cls(reactor, stream._sock)
        end.ended = False
        end.moved_bytes = 0
        end.take_over(stream)
        return end

    def on_event(self, event: int) -> None:
        """Move one read's worth of bytes to the peer."""
        if event & WRITE:
            self.flush()
            if self.closed:
                return
        if event & READ or (event & BROKEN and self._interest & READ):
            self._relay()
        elif event & BROKEN:
            self.mute()

    def _relay(self) -> None:
        try:
            chunk = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.tunnel.abort()
            return
        if not chunk:
            self._end()
            return
        self.progress_at = self._reactor.now
        self.moved_bytes += len(chunk)
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
        if self.ended and not self.peer.backlog:
            self.tunnel.close()

    def on_broken(self) -> None:
        """A write failed: the other end must learn of it."""
        self.tunnel.abort()

    def abort(self) -> None:
        """End the tunnel as a broken one; the reactor's last resort too."""
        self.tunnel.abort()


class Tunnel:
    """A pair of ends, their lease and their time-out.

    Attributes:
        downstream: the end towards the client.
        upstream: the end towards the backend.
    """

    __slots__ = ("_counters", "_lease", "_renew_at", "closed", "downstream", "upstream")

    def __init__(
        self,
        reactor: Reactor,
        counters: ProxyCounters,
        lease: Lease,
        *,
        downstream: Stream,
        upstream: Stream,
    ) -> None:
        """Take over both streams, which may carry a backlog of their own."""
        self._counters = counters
        self._lease = lease
        self.closed = False
        self.downstream = TunnelEnd.of(reactor, downstream)
        self.upstream = TunnelEnd.of(reactor, upstream)
        for end, peer in (
            (self.downstream, self.upstream),
            (self.upstream, self.downstream),
        ):
            end.tunnel = self
            end.peer = peer
            end.watch_reading(not peer.backlog)
        self._renew_at = reactor.now + lease.renew_every_s
        reactor.schedule(self, reactor.now + min(lease.idle_s, lease.renew_every_s, RECHECK_S_MAX))

    def check_deadline(self, now: float) -> float | None:
        """Close an idle tunnel; renew the pin of one that lives."""
        if self.closed:
            return None
        idle_at = max(self.downstream.progress_at, self.upstream.progress_at) + self._lease.idle_s
        if now >= idle_at:
            self.close()
            return None
        if now >= self._renew_at:
            self._renew_at = now + self._lease.renew_every_s
            self._lease.renew()
        self._account()
        return min(idle_at, self._renew_at, now + RECHECK_S_MAX)

    def close(self) -> None:
        """Close both ends in good order."""
        if self._finish():
            Stream.close(self.downstream)
            Stream.close(self.upstream)

    def abort(self) -> None:
        """Close both ends with a reset: one of them broke."""
        if self._finish():
            Stream.abort(self.downstream)
            Stream.abort(self.upstream)

    def _finish(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        self._account()
        self._lease.release(self)
        return True

    def _account(self) -> None:
        """Add to the counters what moved since the last time."""
        self._counters.relayed_up_bytes += self.downstream.moved_bytes
        self._counters.relayed_down_bytes += self.upstream.moved_bytes
        self.downstream.moved_bytes = self.upstream.moved_bytes = 0
