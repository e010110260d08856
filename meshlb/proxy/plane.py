"""The data plane of one process: pools, probes and listeners under one nursery."""

import socket
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import structlog
import trio

from meshlb.config.schema import ListenerSettings, Settings
from meshlb.core.sticky.table import StickTable
from meshlb.model import Address, PoolName
from meshlb.net.reactor import Reactor
from meshlb.net.tls_server import ServerTls
from meshlb.proxy.backend import Backend
from meshlb.proxy.change import AnyFrontend, Change, find_sockets
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.frontend import Frontend
from meshlb.proxy.goodbye import part
from meshlb.proxy.idleness import Idleness
from meshlb.proxy.kernel_relay import PAIRS_MAX, RelayChoice, open_relay
from meshlb.proxy.making import Making, routes
from meshlb.proxy.pool import Pool
from meshlb.proxy.role import ALONE, Role
from meshlb.proxy.tunnels import Tunnels

log = structlog.get_logger()


class DataPlane:
    """Everything between the clients and the backends.

    Attributes:
        pools: by name.
        accepting: set once clients are accepted.
        counters: for the metrics.
        relay_choice: whether tunnels are relayed in the kernel; known once `run` has begun.
    """

    def __init__(
        self,
        settings: Settings,
        table: StickTable,
        *,
        reactor: Reactor,
        table_now: Callable[[], float],
        cookie_secrets: tuple[bytes, ...],
        key_secret: bytes,
        sockets: Mapping[str, socket.socket] = MappingProxyType({}),
        role: Role = ALONE,
    ) -> None:
        """Build the data plane; `run` opens its sockets.

        Args:
            settings: the node's configuration.
            table: the stick table.
            reactor: of the whole node; the caller runs it as long as this, and closes it.
            table_now: the table's clock, in seconds.
            cookie_secrets: the first seals load-balancer cookies and TLS tickets, all open them.
            key_secret: keys the hash of session keys; the same on all nodes.
            sockets: by the name of the listener that gets it: non-blocking, bound, and perhaps
                listening already. They are the plane's from now on; other listeners bind.
            role: what this process does of the work.

        Raises:
            ConfigError: certificates that cannot be used.
        """
        self._role = role
        self._settings = settings
        self._given = dict(sockets)
        self.counters = ProxyCounters()
        self._reactor = reactor
        self.tunnels = Tunnels(self._reactor, self.counters, table, table_now)
        self._making = Making(
            reactor=reactor,
            counters=self.counters,
            tunnels=self.tunnels,
            role=role,
            table=table,
            table_now=table_now,
            cookie_secrets=cookie_secrets,
            key_secret=key_secret,
            doubt=self.doubt,
        )
        self.pools: Mapping[PoolName, Pool] = self._making.pools(settings, before={})
        self._tls: Mapping[str, ServerTls] = self._making.tls(settings)
        self._prober = role.probing(self.pools.values())
        self._idleness = Idleness(reactor, self._backends)
        self._frontends: list[AnyFrontend] = []
        self._retired: list[AnyFrontend] = []
        self._nursery: trio.Nursery | None = None
        self.relay_choice = RelayChoice(False, "the node has not started yet")
        self.accepting = trio.Event()
        self.draining = False

    @property
    def settings(self) -> Settings:
        """What it serves by."""
        return self._settings

    @property
    def addresses(self) -> dict[str, Address]:
        """Where clients reach the listeners, by name, once they are bound."""
        return {frontend.name: frontend.address for frontend in self._frontends}

    @property
    def sockets(self) -> dict[str, socket.socket]:
        """The listeners' sockets by name, to be handed to another process; they stay the plane's.

        It may use them as `sockets` of `__init__`, also while this plane goes on accepting.
        """
        return {f.name: f.sock for f in self._frontends if f.sock is not None}

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
            RelayError: the kernel relay is required, and cannot be had.
        """
        try:
            self._open_relay()
            self._idleness.watch()
            async with trio.open_nursery() as self._nursery:
                for settings in self._settings.listeners:
                    sock = self._given.pop(settings.name, None) or self._role.bind(settings)
                    self._frontends.append(self._make_frontend(settings, sock))
                self._nursery.start_soon(self.tunnels.relays.run)
                self._nursery.start_soon(self._prober.run)
                task_status.started()
                await self._prober.wait_first_round()
                await may_listen.wait()
                for frontend in self._frontends:
                    frontend.listen()
                self.accepting.set()
        finally:
            self._close()

    async def apply(self, settings: Settings) -> None:
        """Serve by other settings from now on, keeping every connection; see `prepare`."""
        self.commit(await self.prepare(settings))

    async def prepare(self, settings: Settings) -> Change:
        """Do all of a change of settings that can fail or takes time; nothing changes yet.

        Backends that are new are probed once, so that they can serve from the first moment. The
        caller hands the result to `commit`, or closes it.

        Raises:
            ConfigError: with each address that cannot be bound, or certificates that cannot be
                used; nothing has changed.
        """
        assert self._nursery is not None, "`run` comes first"
        tls = self._making.tls(settings)
        sockets, fresh = find_sockets(
            settings.listeners,
            self._frontends,
            bind=self._role.bind,
            listening=self.accepting.is_set(),
        )
        pools = self._making.pools(settings, before=self.pools)
        change = Change(settings, pools, tls, sockets, fresh)
        try:
            await self._prober.look_at_new(change.pools.values())
        except BaseException:
            change.close()
            raise
        return change

    def commit(self, change: Change) -> None:
        """Put a change in place, in one step; nothing of it can fail.

        Connections stay. Exchanges in progress end as they began; what begins afterwards goes by
        the new settings. Those of a listener that is gone are drained, and at a backend that is
        gone nothing begins any more.
        """
        if self.draining:
            change.close()
            return
        before, self.pools = self.pools, change.pools
        for name, pool in self.pools.items():
            pool.replace(before.get(name))
        for name in before.keys() - self.pools.keys():
            before[name].retire()
        self._prober.follow(self.pools.values())
        self._settings, self._tls = change.settings, change.tls
        # They may have changed since this was prepared.
        made = self._making
        self.use_secrets(cookie_secrets=made.cookie_secrets, key_secret=made.key_secret)
        self._exchange_frontends(change)

    def _exchange_frontends(self, change: Change) -> None:
        self._reactor.catch_up()
        wanted = {listener.name: listener for listener in change.settings.listeners}
        taken = set(change.sockets.values())
        staying: dict[str, AnyFrontend] = {}
        for frontend in self._frontends:
            name = frontend.name
            stays = name in wanted and _speaks_alike(wanted[name], frontend.settings)
            if not stays or frontend.sock is not change.sockets[name]:
                frontend.give_up(close=frontend.sock not in taken)
            if stays:
                staying[name] = frontend
            else:
                frontend.drain()
                self._retired.append(frontend)
        self._frontends = []
        for name, settings in wanted.items():
            sock = change.sockets[name]
            if name in staying:
                frontend = staying[name]
                frontend.use(
                    settings,
                    self.pools[settings.pool],
                    tls=self._tls.get(name),
                    routes=routes(settings, self.pools),
                )
                frontend.take(sock)
            else:
                frontend = self._make_frontend(settings, sock)
            self._frontends.append(frontend)
            if self.accepting.is_set():
                frontend.listen()
        self._forget_retired()

    def _forget_retired(self) -> None:
        """Frontends that are gone, and whose last client is, count no longer."""
        self._retired = [frontend for frontend in self._retired if frontend.serves]
        serving = {frontend.name for frontend in [*self._frontends, *self._retired]}
        for name in self.counters.listeners.keys() - serving:
            del self.counters.listeners[name]

    def _open_relay(self) -> None:
        clients_max = sum(listener.max_connections for listener in self._settings.listeners)
        self.tunnels.relays.own, self.relay_choice = open_relay(
            self._settings.node.kernel_relay,
            self._reactor,
            pairs_max=min(PAIRS_MAX, clients_max) if self._role.accepts_max else 0,
        )

    def _make_frontend(self, settings: ListenerSettings, sock: socket.socket) -> AnyFrontend:
        assert self._nursery is not None
        return self._making.frontend(
            settings,
            sock,
            pools=self.pools,
            tls=self._tls.get(settings.name),
            nursery=self._nursery,
        )

    def doubt(self, backend: Backend) -> None:
        """A connect to `backend` failed: probe it now."""
        self._prober.doubt(backend)

    def use_secrets(self, *, cookie_secrets: tuple[bytes, ...], key_secret: bytes) -> None:
        """Seal, open and hash with other secrets from now on; see `__init__`."""
        self._making.cookie_secrets, self._making.key_secret = cookie_secrets, key_secret
        for pool in self.pools.values():
            pool.use_secrets(cookie_secrets=cookie_secrets, key_secret=key_secret)
        for tls in self._tls.values():
            tls.use_secrets(cookie_secrets)

    @property
    def listeners(self) -> list[AnyFrontend]:
        """All that have, or may get, clients."""
        return [*self._frontends, *self._retired]

    @property
    def frontends(self) -> list[Frontend]:
        """Those of `listeners` whose clients have connections."""
        return [listener for listener in self.listeners if isinstance(listener, Frontend)]

    def use_table(self, table: StickTable, table_now: Callable[[], float]) -> None:
        """Ask another stick table from now on; nobody may be waiting for the one before."""
        self._making.table, self._making.table_now = table, table_now
        self.tunnels.use_table(table, table_now)
        before = self.pools
        self.pools = self._making.pools(self._settings, before=before)
        for name, pool in self.pools.items():
            pool.replace(before[name])
        for frontend in self.listeners:
            # A listener that is gone may have had a pool that is gone.
            pool = self.pools.get(frontend.settings.pool) or next(iter(self.pools.values()))
            frontend.table_ahead_s = self._making.table_ahead_s()
            frontend.use(
                frontend.settings,
                pool,
                tls=frontend.tls,
                routes=routes(frontend.settings, self.pools),
            )

    async def drain(self, *, timeout_s: float) -> None:
        """Accept nobody new; return when all clients have gone, or have been sent away.

        Requests in progress and tunnels get up to `timeout_s`, WebSockets with a goodbye; idle
        clients go at once.
        """
        self.draining = True
        for frontend in self._frontends:
            frontend.drain()
        with trio.move_on_after(timeout_s) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(part, self.tunnels, timeout_s)
                for frontend in self.listeners:
                    await frontend.wait_empty()
                await self.tunnels.wait_empty()
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            log.warning(
                "drain cut short",
                clients=sum(c.connections for c in self.counters.listeners.values()),
                tunnels=len(self.tunnels),
            )
        self._disconnect()

    def _disconnect(self) -> None:
        for frontend in self.listeners:
            frontend.stop_accepting()
            frontend.close_all()
        self.tunnels.close_all()

    def _backends(self) -> Iterator[Backend]:
        for pool in self.pools.values():
            yield from pool.backends.values()

    def _close(self) -> None:
        self._idleness.stop()
        self._disconnect()
        for sock in self._given.values():
            sock.close()
        for backend in self._backends():
            backend.close_idle()
        self.tunnels.relays.close()


def _speaks_alike(one: ListenerSettings, other: ListenerSettings) -> bool:
    """Whether the clients of one can be told to backends as clients of the other."""
    return one.protocol == other.protocol and (one.tls is None) == (other.tls is None)
