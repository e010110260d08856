"""The register of this node's tunnels: starts them, keeps their pins alive, closes them."""

from collections.abc import Callable

import trio

from meshlb.core.route import Decision
from meshlb.core.sticky.table import StickTable
from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.stream import Stream
from meshlb.proxy.tunnel import Lease, Tunnel

RENEWALS_PER_TTL = 4
"""How often in its pin's idle lifetime a live tunnel, or a long response, renews the pin."""


class Tunnels:
    """All tunnels of one process; `len` counts them."""

    def __init__(
        self,
        reactor: Reactor,
        counters: ProxyCounters,
        table: StickTable,
        table_now: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._counters = counters
        self._table = table
        self._table_now = table_now
        self._open: set[Tunnel] = set()
        self._emptied = trio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        """Tunnels open now."""
        return len(self._open)

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

        def release(tunnel: Tunnel) -> None:
            backend.vacate()
            self._open.discard(tunnel)
            if not self._open:
                self._emptied.set()
            ended()

        lease = Lease(
            idle_s=idle_s,
            renew_every_s=rule.ttl_s / RENEWALS_PER_TTL if rule is not None else idle_s,
            renew=self._renewer(decision),
            release=release,
        )
        if not self._open:
            self._emptied = trio.Event()
        self._open.add(
            Tunnel(self._reactor, self._counters, lease, downstream=downstream, upstream=upstream)
        )

    def _renewer(self, decision: Decision[Backend]) -> Callable[[], None]:
        rule, key = decision.rule, decision.key
        if rule is None or key is None:
            return lambda: None

        def renew() -> None:
            pin = self._table.look_up(key, self._table_now())
            if pin is not None:
                self._table.touch(key, pin, rule.ttl_s)

        return renew

    async def wait_empty(self) -> None:
        """Return when no tunnel is left."""
        await self._emptied.wait()

    def close_all(self) -> None:
        """Close every tunnel."""
        for tunnel in list(self._open):
            tunnel.close()
