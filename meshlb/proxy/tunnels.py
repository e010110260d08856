"""The register of this node's tunnels: starts them, keeps their pins alive, closes them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from meshlb.core.route import Decision
from meshlb.core.sticky.table import StickTable
from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend
from meshlb.proxy.carried import Carried
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.relays import Relays
from meshlb.proxy.stream import Stream
from meshlb.proxy.tunnel import Host, Lease, Tunnel, TunnelEnd

RENEWALS_PER_TTL = 4
"""How often in its pin's idle lifetime a live tunnel, or a long response, renews the pin."""


class Tunnels:
    """All tunnels of one process; `len` counts them, iteration gives them.

    Attributes:
        counters: of the process.
        relays: carry the bytes of tunnels where they can.
    """

    def __init__(
        self,
        reactor: Reactor,
        counters: ProxyCounters,
        table: StickTable,
        table_now: Callable[[], float],
    ) -> None:
        self.counters = counters
        self.relays = Relays(reactor)
        self._arriving = 0
        self._reactor = reactor
        self._table = table
        self._table_now = table_now
        self._open: set[Tunnel] = set()
        self._emptied = trio.Event()
        self._emptied.set()

    def use_table(self, table: StickTable, table_now: Callable[[], float]) -> None:
        """Keep pins alive in another table from now on."""
        self._table, self._table_now = table, table_now

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
        is_websocket: bool,
        host: Host,
    ) -> None:
        """Make a tunnel of two streams, which are spent afterwards.

        The backend's connection, which the caller has counted, is given back at the end; then
        `host` is told.
        """
        rule = decision.rule
        lease = Lease(
            backend,
            key=decision.key if rule is not None else None,
            ttl_s=rule.ttl_s if rule is not None else 0.0,
            renew_every_s=rule.ttl_s / RENEWALS_PER_TTL if rule is not None else idle_s,
            idle_s=idle_s,
            is_websocket=is_websocket,
            host=host,
        )
        self._join(lease, *self.relays.pair(downstream, upstream)).start()

    def adopt(self, lease: Lease, downstream: Carried, upstream: Carried) -> None:
        """Go on with a tunnel of another process, whose relay has been adopted."""
        lease.backend.occupy()
        self._join(lease, *self.relays.resumed(downstream, upstream)).go_on()

    def _join(self, lease: Lease, down: TunnelEnd, up: TunnelEnd) -> Tunnel:
        tunnel = Tunnel(self, lease, downstream=down, upstream=up, reactor=self._reactor)
        if not self._open:
            self._emptied = trio.Event()
        self._open.add(tunnel)
        return tunnel

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
        self._drop_unneeded()
        tunnel.lease.host.tunnel_ended()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Tunnels of another process come: what they need is kept also while none is there."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._drop_unneeded()

    def _drop_unneeded(self) -> None:
        if not self._arriving:
            self.relays.drop_empty()

    def recheck(self, tunnel: Tunnel) -> None:
        """Have the time-outs of a tunnel checked soon."""
        self._reactor.schedule(tunnel, self._reactor.now)

    async def wait_empty(self) -> None:
        """Return when no tunnel is left."""
        await self._emptied.wait()

    def close_all(self) -> None:
        """Close every tunnel."""
        for tunnel in self:
            tunnel.close()
