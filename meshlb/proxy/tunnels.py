"""The register of this node's tunnels: starts them, keeps their pins alive, closes them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio

from meshlb.core.route import Decision
from meshlb.core.sticky.table import StickTable
from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.stream import Stream
from meshlb.proxy.tunnel import Lease, Tunnel, TunnelEnd

if TYPE_CHECKING:
    from meshlb.proxy.kernel_relay import KernelRelay

RENEWALS_PER_TTL = 4
"""How often in its pin's idle lifetime a live tunnel, or a long response, renews the pin."""


class Tunnels:
    """All tunnels of one process; `len` counts them, iteration gives them.

    Attributes:
        counters: of the process.
        relay: carries the bytes of new tunnels where it can; None: they stay in user space.
    """

    def __init__(
        self,
        reactor: Reactor,
        counters: ProxyCounters,
        table: StickTable,
        table_now: Callable[[], float],
    ) -> None:
        self.counters = counters
        self.relay: KernelRelay | None = None
        self._reactor = reactor
        self._table = table
        self._table_now = table_now
        self._open: set[Tunnel] = set()
        self._emptied = trio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        """Tunnels open now."""
        return len(self._open)

    def __iter__(self) -> Iterator[Tunnel]:
        """As they are now; they may end meanwhile."""
        return iter(list(self._open))

    def start(
        self,
        downstream: Stream,
        upstream: Stream,
        backend: Backend,
        decision: Decision[Backend],
        *,
        idle_s: float,
        ended: Callable[[], None],
    ) -> None:
        """Make a tunnel of two streams, which are spent afterwards.

        The backend's connection, which the caller has counted, is given back at the end; then
        `ended` is called.
        """
        rule = decision.rule
        lease = Lease(
            backend,
            key=decision.key if rule is not None else None,
            ttl_s=rule.ttl_s if rule is not None else 0.0,
            renew_every_s=rule.ttl_s / RENEWALS_PER_TTL if rule is not None else idle_s,
            idle_s=idle_s,
            ended=ended,
        )
        pair = self.relay.pair(downstream, upstream) if self.relay is not None else None
        down, up = pair or tuple(TunnelEnd.of(self._reactor, s) for s in (downstream, upstream))
        tunnel = Tunnel(self, lease, downstream=down, upstream=up, reactor=self._reactor)
        if not self._open:
            self._emptied = trio.Event()
        self._open.add(tunnel)
        tunnel.start()

    def renew(self, lease: Lease) -> None:
        """Keep the pin of a tunnel alive."""
        if lease.key is None:
            return
        pin = self._table.look_up(lease.key, self._table_now())
        if pin is not None:
            self._table.touch(lease.key, pin, lease.ttl_s)

    def release(self, tunnel: Tunnel) -> None:
        """A tunnel has ended."""
        tunnel.lease.backend.vacate()
        self._open.discard(tunnel)
        if not self._open:
            self._emptied.set()
        tunnel.lease.ended()

    async def wait_empty(self) -> None:
        """Return when no tunnel is left."""
        await self._emptied.wait()

    def close_all(self) -> None:
        """Close every tunnel."""
        for tunnel in self:
            tunnel.close()
