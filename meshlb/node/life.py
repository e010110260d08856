"""One life of a node: it wires the store, the mesh, the data plane and the admin API.

The only place where proxy and cluster meet.

    join, pull the table      clients are refused until the table is in sync
    serve
    drain, leave              on SIGTERM, Ctrl-C or `meshlb leave`; a second SIGTERM stops at once
    rest                      for an upgrade; if that fails there is another life, see `lives`
"""

import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from meshlb.admin.api import build_app
from meshlb.admin.serve import serve
from meshlb.cluster.loads import CONNECTIONS, Loads
from meshlb.cluster.mesh import Mesh
from meshlb.cluster.options import ClusterOptions
from meshlb.config import Settings, certificates
from meshlb.core.keyring import first_hash_key
from meshlb.errors import ConfigError
from meshlb.model import BackendName, BackendState, PoolName
from meshlb.native import is_compiled
from meshlb.net.reactor import Reactor
from meshlb.node import supervisor
from meshlb.node.collector import spare_the_collector
from meshlb.node.doors import Doors
from meshlb.node.front import Front, workers_wanted
from meshlb.node.reloading import Reloader
from meshlb.node.upgrading import ANSWER_S, DECIDE_S_MAX, Heir, Heritage, UpgradeError, Upgrader
from meshlb.node.upkeep import keep_store
from meshlb.node.view import LiveNode
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.role import ALONE
from meshlb.store import LmdbPins
from meshlb.store.directory import StoreDirectory
from meshlb.store.secret import own_secret
from meshlb.wire.messages import BackendOverride
from meshlb.workers.crew import Crew
from meshlb.workers.reserve import Reserve

LEAVE_S_MAX = 2.0
"""How long saying farewell may take; drain gets the rest of `shutdown_timeout`."""

LEAVE_FRACTION_MAX = 0.4
"""The same as a part of a short `shutdown_timeout`."""

READY_POLL_S = 0.02

log = structlog.get_logger()


@dataclass(slots=True)
class Lasting:
    """What outlives a membership of this process; see `lives`."""

    load: Callable[[], Settings]
    ready: Callable[[LiveNode], None] | None
    heritage: Heritage | None
    directory: StoreDirectory
    doors: Doors
    reactor: Reactor
    signals: AsyncIterator[int]
    nursery: trio.Nursery
    upgrader: Upgrader
    reserve: Reserve
    """For the workers, if there are to be any."""
    front: Front | None = None
    """Made in the first life, and paused when another one begins."""


class Node:
    """The parts of one node, wired."""

    def __init__(self, settings: Settings, store: LmdbPins, lasting: Lasting) -> None:
        """Build everything; `run` begins to serve."""
        self._settings = settings
        self._lasting = lasting
        self._store = store
        cluster = settings.cluster
        if cluster is not None and cluster.tls is not None:
            _tell_of_dates(cluster.tls.cert)
        self._mesh = Mesh(
            settings.node.name,
            reactor=lasting.reactor,
            cluster=ClusterOptions.of(cluster) if cluster is not None else None,
            store=store,
            bulk=store,
            data_dir=lasting.directory.path,
            last_contact=store.last_contact(),
            ports=[sock.dup() for sock in lasting.doors.cluster],
            on_override=self._apply,
            on_keys=self._use_keys,
        )
        store.on_fading, store.on_provisional = self._mesh.fading, self._mesh.unsettled
        self._is_first = lasting.front is None
        if lasting.front is None:
            lasting.front = self._new_front()
        else:
            lasting.front.use(store, self._mesh.table, self._mesh.clock.now)
        self._front = lasting.front
        cookie_secrets, key_secret = self._secrets()
        self._front.use_secrets(cookie_secrets=cookie_secrets, key_secret=key_secret)
        self._mesh.table.why_unusable = self._why_unusable
        for word in self._mesh.overrides():
            self._apply(word)
        self._loads = Loads(
            here=self._front.connections,
            tell=partial(self._mesh.broadcast, wait="none"),
            live=lambda: [m.name for m in self._mesh.members() if m.is_live],
            on_change=self._front.set_elsewhere,
        )
        self._mesh.on_broadcast(CONNECTIONS, self._loads.hear)
        self._may_listen = trio.Event()
        self._leaving = trio.Event()
        self._ends = trio.Event()
        self._reloader = Reloader(
            lasting.load, settings, mesh=self._mesh, front=self._front, order=self._apply
        )
        self._view = LiveNode(
            settings,
            mesh=self._mesh,
            front=self._front,
            store=store,
            reloader=self._reloader,
            upgrader=lasting.upgrader,
            upgrade=self.upgrade,
            leave=self._leave_soon,
        )

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._reloader.settings

    def _secrets(self) -> tuple[tuple[bytes, ...], bytes]:
        """Of load-balancer cookies, and of the hash of session keys."""
        if (keys := self._mesh.keys) is not None:
            return keys.keyring.secrets, keys.hash_key
        secret = own_secret(self._lasting.directory.path)
        return (secret,), first_hash_key(secret)

    def _new_front(self) -> Front:
        crew = self._make_crew()
        cookie_secrets, key_secret = self._secrets()
        sockets, self._lasting.doors.listeners = self._lasting.doors.listeners, {}
        plane = DataPlane(
            self._settings,
            self._mesh.table,
            reactor=self._lasting.reactor,
            table_now=self._mesh.clock.now,
            cookie_secrets=cookie_secrets,
            key_secret=key_secret,
            sockets=sockets,
            role=ALONE if crew is None else crew.role,
        )
        return Front(plane, crew)

    def _make_crew(self) -> Crew | None:
        count = workers_wanted(self._settings)
        if not count:
            return None
        cluster = self._settings.cluster
        return Crew(
            count,
            store=self._store,
            table=self._mesh.table,
            table_now=self._mesh.clock.now,
            is_strict=cluster is not None and cluster.mode == "strict",
            reserve=self._lasting.reserve,
        )

    async def run(self) -> Heir | None:
        """Serve until told to leave, or until another process is there to take over.

        Returns:
            That process: the front is paused, and goes on asking nobody; None: the node has left.
        """
        lasting = self._lasting
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey, nursery)
            if self._is_first:
                await lasting.nursery.start(self._serve_clients)
            await nursery.start(self._mesh.run)
            await nursery.start(self._serve_operators)
            nursery.start_soon(keep_store, self._store, self._mesh)
            if self._settings.cluster is not None:
                nursery.start_soon(self._loads.run)
            self._announce(lasting.doors.admin.place)
            self._reloader.begin()
            nursery.start_soon(self._open_when_ready)
            await self._ends.wait()
            heir = None if self._leaving.is_set() else lasting.upgrader.heir
            if heir is None:
                await self._leave()
            else:
                await self._rest()
            nursery.cancel_scope.cancel()
        return heir

    async def _serve_clients(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self._front.run(may_listen=self._may_listen, task_status=task_status)

    async def _serve_operators(self, *, task_status: trio.TaskStatus[object]) -> None:
        app, door = build_app(self._view), self._lasting.doors.admin
        await serve(self._settings.admin, app, door=door, task_status=task_status)

    def _announce(self, admin: object) -> None:
        log.info(
            "node started",
            node=self._settings.node.name,
            admin=str(admin),
            cluster=str(self._mesh.address) if self._settings.cluster is not None else None,
            listeners={name: str(address) for name, address in self._front.addresses.items()},
            compiled=is_compiled(),
        )

    async def _open_when_ready(self) -> None:
        """Let clients in once the table is in sync."""
        lasting = self._lasting
        while not self._mesh.readiness()[0]:  # noqa: ASYNC110 - it depends on many things
            await trio.sleep(READY_POLL_S)
        self._may_listen.set()
        await self._front.wait_accepting()
        self._front.resume()
        spare_the_collector()
        log.info("node ready", node=self._settings.node.name)
        supervisor.tell_ready()
        if (heritage := lasting.heritage) is not None:
            lasting.heritage = None
            lasting.nursery.start_soon(heritage.take, self._front, lasting.directory)
        if lasting.ready is not None:
            lasting.ready(self._view)

    async def _obey(self, nursery: trio.Nursery) -> None:
        async for number in self._lasting.signals:
            if number == signal.SIGUSR2:
                nursery.start_soon(self._upgrade_by_signal)
            elif number == signal.SIGHUP:
                # One that waits has yet to read the file, and will do for both.
                if not self._reloader.is_waiting:
                    nursery.start_soon(self._reload)
            elif self._leaving.is_set():
                log.warning("node stops at once")
                self._lasting.nursery.cancel_scope.cancel()
            else:
                self._leave_soon()

    def _leave_soon(self) -> None:
        self._leaving.set()
        self._ends.set()

    async def upgrade(self) -> int:
        """Start the new program; it takes over a moment later.

        Returns:
            Its process id.

        Raises:
            UpgradeError: it cannot take over, and nothing has changed.
        """
        if not self._front.accepting or self._leaving.is_set():
            raise UpgradeError("the node does not serve just now")
        pid = await self._lasting.upgrader.start(self.settings)
        self._lasting.nursery.start_soon(self._end_for_heir)
        return pid

    async def _upgrade_by_signal(self) -> None:
        """SIGUSR2; the log has the reason where it fails."""
        with contextlib.suppress(UpgradeError):
            await self.upgrade()

    async def _end_for_heir(self) -> None:
        await trio.sleep(ANSWER_S)
        self._ends.set()

    async def _rest(self) -> None:
        """Begin nothing more, and have everybody know what this node knows."""
        await self._front.pause(timeout_s=DECIDE_S_MAX)
        await self._mesh.leave(for_good=False)

    async def _reload(self) -> None:
        """SIGHUP; the log has the faults."""
        with contextlib.suppress(ConfigError):
            await self._reloader.reload()

    async def _leave(self) -> None:
        """Drain, say farewell, and be done within `shutdown_timeout`."""
        total_s = self._reloader.settings.node.shutdown_timeout_s
        farewell_s = min(LEAVE_S_MAX, total_s * LEAVE_FRACTION_MAX)
        supervisor.tell_stopping()
        log.info("node leaves", node=self._settings.node.name, within_s=total_s)
        await self._front.drain(timeout_s=total_s - farewell_s)
        with trio.move_on_after(farewell_s):
            await self._mesh.leave()
        log.info("node has left", node=self._settings.node.name)

    def _use_keys(self) -> None:
        """The cluster's secrets have changed: cookies and session keys follow at once."""
        keys = self._mesh.keys
        assert keys is not None
        self._front.use_secrets(cookie_secrets=keys.keyring.secrets, key_secret=keys.hash_key)

    def _why_unusable(self, pool: PoolName, backend: BackendName) -> str:
        """Why sessions leave a backend, as this node sees it now."""
        known_pool = self._front.pools.get(pool)
        known = known_pool.backends.get(backend) if known_pool is not None else None
        if known is None:
            return f"{backend} is not configured any more"
        if known.state is BackendState.MAINTENANCE:
            return f"{backend} is in maintenance"
        if known.state is BackendState.DOWN:
            return f"{backend} is down" + (f", {known.reason}" if known.reason else "")
        return f"{backend} could not be reached"

    def _apply(self, word: BackendOverride) -> None:
        """An operator's word on a backend, from this node or another one."""
        pool = self._front.pools.get(word.pool)
        backend = pool.backends.get(word.backend) if pool is not None else None
        if backend is None:
            log.info("a word on a backend not known here", pool=word.pool, backend=word.backend)
            return
        log.info(
            "backend ordered", pool=word.pool, backend=word.backend, state=word.state, by=word.by
        )
        backend.order(word.state)


def _tell_of_dates(cert: Path) -> None:
    """A certificate out of its time is no reason not to serve, but one to speak of."""
    now = certificates.utc_now()
    for fault in certificates.out_of_date(cert, now):
        log.error("other members refuse this node's certificate", fault=fault)
    if (expiry := certificates.expires_soon(cert, now)) is not None:
        log.warning("this node's certificate expires soon", certificate=str(cert), at=expiry)
