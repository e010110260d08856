"""A node: one nursery that wires the store, the mesh, the data plane and the admin API.

The only place where proxy and cluster meet. Its life:

    bind every address        a port in use ends the start with one line
    join, pull the table      clients are refused until the table is in sync
    serve
    drain, leave, exit 0      on SIGTERM, Ctrl-C or `meshlb leave`; a second SIGTERM stops at once
"""

import contextlib
import gc
import math
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
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
from meshlb.errors import ConfigError, StoreError
from meshlb.model import BackendName, BackendState, PoolName
from meshlb.net.reactor import Reactor
from meshlb.node.front import Front
from meshlb.node.reloading import Reloader
from meshlb.node.view import LiveNode
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.role import ALONE
from meshlb.store import LmdbPins, Owner, open_pins
from meshlb.store.secret import own_secret
from meshlb.wire.messages import BackendOverride
from meshlb.workers.board import WORKERS_MAX
from meshlb.workers.crew import Crew

LEAVE_S_MAX = 2.0
"""How long saying farewell may take; drain gets the rest of `shutdown_timeout`."""

LEAVE_FRACTION_MAX = 0.4
"""The same as a part of a short `shutdown_timeout`."""

READY_POLL_S = 0.02
SWEEP_EVERY_S = 0.1
"""Each sweep looks at a bounded number of pins; a million are looked at within a minute."""

CONTACT_EVERY_S = 10.0
"""How often a node notes on its disk that it is with the majority."""

SYNC_EVERY_S = 1.0
"""How much of the latest a power cut of the machine can cost; a crash of the node costs nothing."""

log = structlog.get_logger()


async def run(
    settings: Settings,
    *,
    load: Callable[[], Settings] | None = None,
    ready: Callable[[LiveNode], None] | None = None,
) -> None:
    """Run a node until it is told to leave.

    Args:
        settings: the configuration.
        load: reads it anew for a reload; None: it stays what it is.
        ready: called once the node serves.

    Raises:
        ListenError: an address cannot be bound.
        StoreError: the store cannot be opened.
    """
    _raise_descriptor_limit()
    _spare_the_collector()
    store = open_pins(
        settings.node.data_dir,
        Owner(settings.cluster.name if settings.cluster is not None else "", settings.node.name),
        on_unusable=settings.node.on_unusable_store,
    )
    try:
        node = Node(settings, store, load or (lambda: settings))
        await node.run(ready)
    finally:
        store.close()


class Node:
    """The parts of one node, wired."""

    def __init__(self, settings: Settings, store: LmdbPins, load: Callable[[], Settings]) -> None:
        """Bind the cluster's port and build everything; `run` begins to serve."""
        self._settings = settings
        self._store = store
        cluster, data_dir = settings.cluster, settings.node.data_dir
        if cluster is not None and cluster.tls is not None:
            _tell_of_dates(cluster.tls.cert)
        self._reactor = Reactor()
        self._mesh = Mesh(
            settings.node.name,
            reactor=self._reactor,
            cluster=ClusterOptions.of(cluster) if cluster is not None else None,
            store=store,
            bulk=store,
            data_dir=data_dir,
            last_contact=store.last_contact(),
            on_override=self._apply,
            on_keys=self._use_keys,
        )
        if (keys := self._mesh.keys) is not None:
            cookie_secrets, key_secret = keys.keyring.secrets, keys.hash_key
        else:
            cookie_secrets = (own_secret(data_dir),)
            key_secret = first_hash_key(cookie_secrets[0])
        store.on_fading, store.on_provisional = self._mesh.fading, self._mesh.unsettled
        crew = self._make_crew()
        self._plane = DataPlane(
            settings,
            self._mesh.table,
            reactor=self._reactor,
            table_now=self._mesh.clock.now,
            cookie_secrets=cookie_secrets,
            key_secret=key_secret,
            role=ALONE if crew is None else crew.role,
        )
        self._front = Front(self._plane, crew)
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
        self._leaving = trio.Event()
        self._reloader = Reloader(
            load, settings, mesh=self._mesh, front=self._front, order=self._apply
        )
        self._view = LiveNode(
            settings,
            mesh=self._mesh,
            front=self._front,
            store=store,
            reloader=self._reloader,
            leave=self._leaving.set,
        )

    def _make_crew(self) -> Crew | None:
        wanted = self._settings.node.workers
        count = min(len(os.sched_getaffinity(0)), WORKERS_MAX) if wanted == "auto" else wanted
        if not count:
            return None
        cluster = self._settings.cluster
        return Crew(
            count,
            store=self._store,
            table=self._mesh.table,
            table_now=self._mesh.clock.now,
            is_strict=cluster is not None and cluster.mode == "strict",
        )

    async def run(self, ready: Callable[[LiveNode], None] | None) -> None:
        """Serve until told to leave, then drain and leave."""
        may_listen = trio.Event()

        async def serve_clients(*, task_status: trio.TaskStatus[None]) -> None:
            await self._front.run(may_listen=may_listen, task_status=task_status)

        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                nursery.start_soon(self._obey, signals, nursery)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
                nursery.start_soon(self._reactor.run)
                await nursery.start(serve_clients)
                await nursery.start(self._mesh.run)
                admin = await nursery.start(serve, self._settings.admin, build_app(self._view))
                nursery.start_soon(self._keep_store)
                if self._settings.cluster is not None:
                    nursery.start_soon(self._loads.run)
                self._announce(admin)
                self._reloader.begin()
                nursery.start_soon(self._open_when_ready, may_listen, ready)
                await self._leaving.wait()
                await self._leave()
                nursery.cancel_scope.cancel()
        self._reactor.close()

    def _announce(self, admin: object) -> None:
        log.info(
            "node started",
            node=self._settings.node.name,
            admin=str(admin),
            cluster=str(self._mesh.address) if self._settings.cluster is not None else None,
            listeners={name: str(address) for name, address in self._plane.addresses.items()},
        )

    async def _open_when_ready(
        self, may_listen: trio.Event, ready: Callable[[LiveNode], None] | None
    ) -> None:
        """Let clients in once the table is in sync."""
        while not self._mesh.readiness()[0]:  # noqa: ASYNC110 - it depends on many things
            await trio.sleep(READY_POLL_S)
        may_listen.set()
        await self._front.wait_accepting()
        _spare_the_collector()
        log.info("node ready", node=self._settings.node.name)
        if ready is not None:
            ready(self._view)

    async def _keep_store(self) -> None:
        """Remove what has expired, a little at a time; flush to the disk in a thread."""
        synced_at, contact_at = trio.current_time(), -math.inf
        while True:
            await trio.sleep(SWEEP_EVERY_S)
            self._store.sweep(self._mesh.clock.now())
            is_due = trio.current_time() >= contact_at + CONTACT_EVERY_S
            if is_due and self._mesh.is_quorate and self._mesh.readiness()[0]:
                contact_at = trio.current_time()
                self._store.note_contact(self._mesh.clock.now())
            if trio.current_time() >= synced_at + SYNC_EVERY_S:
                try:
                    await trio.to_thread.run_sync(self._store.sync)
                except StoreError as error:
                    log.error("the pins could not be flushed to the disk", reason=str(error))
                synced_at = trio.current_time()

    async def _obey(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                # One that waits has yet to read the file, and will do for both.
                if not self._reloader.is_waiting:
                    nursery.start_soon(self._reload)
            elif self._leaving.is_set():
                log.warning("node stops at once")
                nursery.cancel_scope.cancel()
            else:
                self._leaving.set()

    async def _reload(self) -> None:
        """SIGHUP; the log has the faults."""
        with contextlib.suppress(ConfigError):
            await self._reloader.reload()

    async def _leave(self) -> None:
        """Drain, say farewell, and be done within `shutdown_timeout`."""
        total_s = self._reloader.settings.node.shutdown_timeout_s
        farewell_s = min(LEAVE_S_MAX, total_s * LEAVE_FRACTION_MAX)
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
        known_pool = self._plane.pools.get(pool)
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
        pool = self._plane.pools.get(word.pool)
        backend = pool.backends.get(word.backend) if pool is not None else None
        if backend is None:
            log.info("a word on a backend not known here", pool=word.pool, backend=word.backend)
            return
        log.info(
            "backend ordered", pool=word.pool, backend=word.backend, state=word.state, by=word.by
        )
        backend.order(word.state)


def _raise_descriptor_limit() -> None:
    """As many descriptors as this user may have: each client needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spare_the_collector() -> None:
    """What is alive now lives as long as the node: the collector need not look at it again.

    To look at all modules takes 20 to 100 ms. So this is done first before peers wait for this
    node, and again, at little cost, when it begins to serve.
    """
    gc.collect()
    gc.freeze()


def _tell_of_dates(cert: Path) -> None:
    """A certificate out of its time is no reason not to serve, but one to speak of."""
    now = certificates.utc_now()
    for fault in certificates.out_of_date(cert, now):
        log.error("other members refuse this node's certificate", fault=fault)
    if (expiry := certificates.expires_soon(cert, now)) is not None:
        log.warning("this node's certificate expires soon", certificate=str(cert), at=expiry)
