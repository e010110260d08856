"""The node as its admin API sees it: answers `meshlb.admin.node_view.NodeView` from the live parts.

Owns only the translation. It changes nothing but through the mesh and the node's own `leave`.
"""

import contextlib
import os
import time
from collections.abc import Awaitable, Callable

import trio

from meshlb import __version__
from meshlb.admin.metrics import Meters
from meshlb.admin.view import (
    AdminError,
    BackendView,
    Explanation,
    HealView,
    KernelRelayView,
    KeyStep,
    KeyView,
    MemberView,
    OrderView,
    PinView,
    PoolView,
    ReceiptView,
    ReloadView,
    StatusView,
    StoreView,
    SyncView,
    UpgradeOrder,
    unknown_backend,
    unknown_member,
    unknown_pool,
)
from meshlb.cluster.mesh import Mesh
from meshlb.config import Settings
from meshlb.errors import ConfigError
from meshlb.model import (
    BackendName,
    BackendState,
    ClusterSecret,
    KeyId,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.native import is_compiled
from meshlb.node import readings, shapes
from meshlb.node.front import Front
from meshlb.node.keys import KeyOrders
from meshlb.node.reloading import Reloader
from meshlb.node.upgrading import UpgradeError, Upgrader
from meshlb.proxy.pool import Pool
from meshlb.store import LmdbPins
from meshlb.wire.versions import common_of

STATUS_CLASSES_MAX = 5
SCAN_PINS = 500
"""Pins read at a time for a listing: other tasks get their turn about every millisecond."""


class LiveNode:
    """Implements `NodeView`."""

    def __init__(
        self,
        settings: Settings,
        *,
        mesh: Mesh,
        front: Front,
        store: LmdbPins,
        reloader: Reloader,
        upgrader: Upgrader,
        upgrade: Callable[[], Awaitable[int]],
        leave: Callable[[], None],
    ) -> None:
        """Wire the view; `leave` begins what SIGTERM begins."""
        self._settings = settings
        self._mesh = mesh
        self._keys = KeyOrders(mesh)
        self._front = front
        self._store = store
        self._reloader = reloader
        self._upgrader = upgrader
        self._upgrade = upgrade
        self._leave = leave
        self._started_at = time.monotonic()

    def status(self) -> StatusView:
        """The node at a glance."""
        ready, reason = self.ready()
        cluster = self._settings.cluster
        return StatusView(
            node=self._mesh.name,
            version=__version__,
            pid=os.getpid(),
            cluster=cluster.name if cluster is not None else None,
            uptime_s=time.monotonic() - self._started_at,
            members=shapes.members_by_state(self._mesh.members()),
            pins=len(self._store),
            in_sync=self._mesh.readiness()[0],
            ready=ready,
            reason=reason,
            quorate=self._mesh.is_quorate,
            protocol=self._protocol(),
            listeners={name: str(address) for name, address in self._front.addresses.items()},
            sync=self._sync(),
            store=StoreView(
                written=self._store.degraded is None,
                reason=self._store.degraded or "",
                waiting=self._store.unwritten,
                forgotten=self._store.forgotten,
            ),
            workers=self._front.workers,
            upgrade=shapes.upgrade_view(self._upgrader.failed_at, self._upgrader.failure),
            config=shapes.config_view(self._reloader.loaded_at, self._reloader.last_failure),
            kernel_relay=KernelRelayView(
                active=self._front.relay_choice.active, reason=self._front.relay_choice.reason
            ),
            compiled=is_compiled(),
        )

    def ready(self) -> tuple[bool, str]:
        """Whether listeners accept and the table is in sync; if not, the reason."""
        if self._front.draining:
            return False, "the node is leaving"
        in_sync, reason = self._mesh.readiness()
        if not in_sync:
            return False, reason
        if not self._front.accepting:
            return False, "the listeners do not accept yet"
        return True, ""

    def _protocol(self) -> int | None:
        spoken = common_of(member.versions for member in self._mesh.members() if member.is_live)
        return None if spoken is None else spoken.version

    def members(self) -> tuple[MemberView, ...]:
        """All members in the view, by name."""
        sync = self._sync()
        return tuple(
            MemberView(
                name=member.name,
                address=str(member.address) if self._settings.cluster is not None else "",
                state=member.state.name.lower(),
                incarnation=member.incarnation,
                boot_id=f"{member.boot_id:016x}",
                synced=member.synced,
                is_self=member.name == self._mesh.name,
                for_s=max(0.0, trio.current_time() - member.since),
                protocol=shapes.span(member),
                features=shapes.features(member),
                sync=sync.get(member.name),
            )
            for member in sorted(self._mesh.members(), key=lambda member: member.name)
        )

    def heals(self) -> tuple[HealView, ...]:
        """The latest ends of partitions, the oldest first, and which pins moved then."""
        return tuple(map(shapes.heal, self._mesh.heals().all()))

    def pools(self) -> tuple[PoolView, ...]:
        """All pools, in the order of the configuration."""
        counts = self._store.counts()
        return tuple(
            PoolView(
                name=pool.name,
                balance=pool.settings.balance,
                backends=tuple(
                    BackendView(
                        name=backend.name,
                        address=str(backend.address),
                        state=backend.state,
                        weight=backend.weight,
                        connections=backend.in_use,
                        connections_elsewhere=backend.elsewhere,
                        pins=counts.get((pool.name, backend.name), 0),
                        reason=backend.reason,
                        order=self._order(pool.name, backend.name),
                    )
                    for backend in pool.backends.values()
                ),
            )
            for pool in self._front.pools.values()
        )

    def _order(self, pool: PoolName, backend: BackendName) -> OrderView | None:
        word = self._mesh.override_on(pool, backend)
        if word is None:
            return None
        return OrderView(state=word.state, by=word.by, at=shapes.iso(word.stamp_ms / 1000))

    async def pins(
        self, pool: PoolName | None, backend: BackendName | None, limit: int
    ) -> tuple[PinView, ...]:
        """At most `limit` live pins, of one pool or backend where one is named."""
        found: list[PinView] = []
        after: SessionKey | None = None
        while len(found) < limit:
            page = self._store.scan(after, SCAN_PINS)
            now = self._mesh.clock.now()
            found += [
                shapes.pin(key, pin, now)
                for key, pin in page
                if pin.is_live(now)
                and (pool is None or pin.pool == pool)
                and (backend is None or pin.backend == backend)
            ]
            if not page:
                break
            after = page[-1][0]
            await trio.lowlevel.checkpoint()
        return tuple(found[:limit])

    def explain(self, pool: PoolName, key: str) -> Explanation | None:
        """The pin of `key`, as a client sends it."""
        found = self._pool(pool)
        session_key = self._find(found, key)
        story = self._mesh.explain(session_key) if session_key is not None else None
        if story is None:
            return None
        backend = found.backends.get(story.pin.backend)
        state = backend.state.value if backend is not None else "removed"
        return shapes.explanation(key, story, backend_state=state, now=self._mesh.clock.now())

    def meters(self) -> Meters:
        """The counters as they stand."""
        return readings.take(self._mesh, self._front, self._store, sync=self._sync())

    async def unpin(self, pool: PoolName, key: str) -> bool:
        """Forget the pin of `key` cluster-wide; False where there was none."""
        session_key = self._find(self._pool(pool), key)
        return session_key is not None and self._mesh.unpin(session_key)

    async def set_backend_state(
        self, pool: PoolName, backend: BackendName, state: BackendState
    ) -> ReceiptView:
        """Put a backend to `UP` (health decides), `DRAINING` or `MAINTENANCE`, cluster-wide."""
        if backend not in self._pool(pool).backends:
            raise unknown_backend(pool, backend)
        receipt = await self._mesh.set_backend_state(pool, backend, state)
        await self._front.caught_up()
        return ReceiptView(
            acknowledged=receipt.acknowledged,
            waiting_for=receipt.waiting_for,
            gone=receipt.gone,
        )

    def keys(self) -> tuple[KeyView, ...]:
        """The cluster's secrets, the one that this node seals with first."""
        return self._keys.all()

    async def install_key(self, secret: ClusterSecret) -> KeyStep:
        """Have all members hold `secret`, and wait a little for their word that they do."""
        return await self._keys.install(secret)

    async def use_key(self, key_id: KeyId, *, force: bool) -> KeyStep:
        """Have all members seal with a secret; refused while a live one lacks it."""
        return await self._keys.use(key_id, force=force)

    async def remove_key(self, key_id: KeyId, *, force: bool) -> KeyStep:
        """Have all members forget a secret; refused while a member may still need it."""
        return await self._keys.remove(key_id, force=force)

    async def forget(self, member: str) -> None:
        """Count a dead member as having left, cluster-wide."""
        known = {other.name: other.state for other in self._mesh.members()}
        name = NodeName(member)
        if name not in known:
            raise unknown_member(member)
        if not self._mesh.forget(name):
            state = known[name].name.lower()
            raise AdminError(
                409, "not_dead", f"{member} is {state}; only a dead member is forgotten"
            )

    async def reload(self) -> ReloadView:
        """Read the configuration file again and go by it, keeping every connection."""
        try:
            found = await self._reloader.reload()
        except ConfigError as error:
            raise AdminError(
                422,
                "faulty_configuration",
                "not reloaded, and nothing was changed",
                faults=tuple(error.faults),
            ) from None
        return ReloadView(changes=tuple(map(str, found)))

    async def upgrade(self) -> UpgradeOrder:
        """Start the new program, which takes over a moment later."""
        try:
            return UpgradeOrder(pid=await self._upgrade())
        except UpgradeError as error:
            raise AdminError(409, "not_upgraded", str(error), faults=error.faults) from None

    async def leave(self) -> None:
        """Begin what SIGTERM begins."""
        self._leave()

    def _sync(self) -> dict[str, SyncView]:
        now = self._mesh.clock.now()
        return {
            peer: SyncView(age_s=max(0.0, now - sync.as_of), differing_keys=sync.differing)
            for peer, sync in self._mesh.sync().items()
        }

    def _pool(self, name: PoolName) -> Pool:
        pool = self._front.pools.get(name)
        if pool is None:
            raise unknown_pool(name)
        return pool

    def _find(self, pool: Pool, key: str) -> SessionKey | None:
        """The session key of what a client sends: the first rule under which there is a pin.

        The hash that `pins` lists is understood too.
        """
        candidates = list(pool.router.keys_of(key.encode()))
        if len(key) == 32:
            with contextlib.suppress(ValueError):
                candidates.append(SessionKey(bytes.fromhex(key)))
        now = self._mesh.clock.now()
        for candidate in candidates:
            if self._mesh.table.look_up(candidate, now) is not None:
                return candidate
        return None
