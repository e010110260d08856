"""The data plane of one process: reactor, pools, probes and listeners under one nursery."""

from collections.abc import Callable, Mapping

import structlog
import trio

from meshlb.config.schema import Settings
from meshlb.core.sticky.table import StickTable
from meshlb.model import Address, PoolName
from meshlb.net.reactor import Reactor
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.frontend import Frontend
from meshlb.proxy.pool import Pool
from meshlb.proxy.prober import Prober
from meshlb.proxy.tunnels import Tunnels

log = structlog.get_logger()


class DataPlane:
    """Everything between the clients and the backends.

    Attributes:
        pools: by name.
        accepting: set once clients are accepted.
        addresses: of the listeners, by name, once they are bound.
        counters: for the metrics.
    """

    def __init__(
        self,
        settings: Settings,
        table: StickTable,
        *,
        table_now: Callable[[], float],
        cookie_secrets: tuple[bytes, ...],
        key_secret: bytes,
    ) -> None:
        """Build the data plane; `run` opens its sockets.

        Args:
            settings: the node's configuration.
            table: the stick table.
            table_now: the table's clock, in seconds.
            cookie_secrets: the first seals load-balancer cookies, all open them.
            key_secret: keys the hash of session keys; the same on all nodes.
        """
        self._settings = settings
        self._table_now = table_now
        self.counters = ProxyCounters()
        self._reactor = Reactor()
        self.tunnels = Tunnels(self._reactor, self.counters, table, table_now)
        self.pools: Mapping[PoolName, Pool] = {
            name: Pool(
                name,
                pool,
                reactor=self._reactor,
                table=table,
                table_now=table_now,
                cookie_secrets=cookie_secrets,
                key_secret=key_secret,
                counters=self.counters,
                doubt=lambda backend: self._prober.doubt(backend),
            )
            for name, pool in settings.pools.items()
        }
        self._prober = Prober(list(self.pools.values()))
        self._frontends: list[Frontend] = []
        self.addresses: dict[str, Address] = {}
        self.accepting = trio.Event()
        self.draining = False

    async def run(
        self,
        *,
        may_listen: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; `started` once all addresses are bound.

        Args:
            may_listen: clients are refused until it is set, and every backend has been probed.
            task_status: of `nursery.start`.

        Raises:
            ListenError: an address cannot be bound; nothing is left open.
        """
        try:
            async with trio.open_nursery() as nursery:
                for settings in self._settings.listeners:
                    frontend = Frontend(
                        settings,
                        self.pools[settings.pool],
                        reactor=self._reactor,
                        tunnels=self.tunnels,
                        nursery=nursery,
                        table_ahead_s=self._table_now() - trio.current_time(),
                        counters=self.counters,
                    )
                    self._frontends.append(frontend)
                    self.addresses[settings.name] = frontend.bind()
                nursery.start_soon(self._reactor.run)
                nursery.start_soon(self._prober.run)
                task_status.started()
                await self._prober.wait_first_round()
                await may_listen.wait()
                for frontend in self._frontends:
                    frontend.listen()
                self.accepting.set()
        finally:
            self._close()

    def use_secrets(self, *, cookie_secrets: tuple[bytes, ...], key_secret: bytes) -> None:
        """Seal, open and hash with other secrets from now on; see `__init__`."""
        for pool in self.pools.values():
            pool.use_secrets(cookie_secrets=cookie_secrets, key_secret=key_secret)

    async def drain(self, *, timeout_s: float) -> None:
        """Accept nobody new; return when all clients have gone, or have been sent away.

        Requests in progress and tunnels get up to `timeout_s`; idle clients go at once.
        """
        self.draining = True
        for frontend in self._frontends:
            frontend.drain()
        with trio.move_on_after(timeout_s) as scope:
            for frontend in self._frontends:
                await frontend.wait_empty()
            await self.tunnels.wait_empty()
        if scope.cancelled_caught:
            log.warning(
                "drain cut short",
                clients=sum(c.connections for c in self.counters.listeners.values()),
                tunnels=len(self.tunnels),
            )
        self._disconnect()

    def _disconnect(self) -> None:
        for frontend in self._frontends:
            frontend.stop_accepting()
            frontend.close_all()
        self.tunnels.close_all()

    def _close(self) -> None:
        self._disconnect()
        for pool in self.pools.values():
            for backend in pool.backends.values():
                backend.close_idle()
        self._reactor.close()
