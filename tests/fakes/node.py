"""A node in memory, for tests of what stands around it: two pools, three members, two pins."""

from dataclasses import dataclass, field, replace

from meshlb.admin.metrics import Meters
from meshlb.admin.view import (
    AdminError,
    BackendView,
    ConfigView,
    Explanation,
    HealView,
    KeyStep,
    KeyView,
    MemberView,
    MoveView,
    OrderView,
    PinChange,
    PinView,
    PoolView,
    ReceiptView,
    ReloadView,
    StatusView,
    StoreView,
    SyncView,
    UpgradeOrder,
    UpgradeView,
    WorkerView,
    unknown_member,
)
from meshlb.model import BackendName, BackendState, ClusterSecret, KeyId, PoolName
from meshlb.wire.seal import key_id_of

POOL = PoolName("app")
SYNC = {"lb-2": SyncView(age_s=3.0, differing_keys=0)}


def make_backend(name: str) -> BackendView:
    return BackendView(
        name=name,
        address="127.0.0.1:9001",
        state=BackendState.UP,
        weight=1,
        connections=2,
        connections_elsewhere=1,
        pins=1,
        reason="",
    )


def make_pin(key: str, backend: str) -> PinView:
    return PinView(
        key=key,
        pool=POOL,
        backend=backend,
        by="header",
        epoch=1,
        rank="quorate",
        made_by="lb-2",
        made_at="2026-01-02T03:04:05Z",
        expires_in_s=1180.0,
    )


@dataclass
class FakeNode:
    """Implements `meshlb.admin.node_view.NodeView`; keys are pinned under their own names."""

    pinned: dict[str, str] = field(default_factory=lambda: {"alice": "s1", "bob": "s2"})
    states: dict[str, BackendState] = field(default_factory=dict)
    unready: str = ""
    disk_trouble: str = ""
    left: bool = False
    forgotten: list[str] = field(default_factory=list)
    broken: bool = False
    quorate: bool = True
    workers: tuple[WorkerView, ...] = ()
    moves: int = 1
    """Pins that its last heal has moved; below 0: there was none."""
    deaf: tuple[str, ...] = ()
    """Members that acknowledge nothing."""
    held: list[str] = field(default_factory=lambda: ["00000001", "00000002"])
    sealing: str = "00000001"
    reluctant: bool = False
    """Orders about secrets are refused, unless by force."""
    faults: tuple[str, ...] = ()
    """Of its configuration file as it is now."""
    changes: tuple[str, ...] = ()
    """What a reload changes."""
    upgrades: int = 0
    upgrade_fails: str = ""
    """Why the new process does not take over."""
    silent: bool = False
    """A live member does not acknowledge orders about secrets."""

    def status(self) -> StatusView:
        if self.broken:
            raise RuntimeError("a bug")
        return StatusView(
            node="lb-1",
            version="0.1.0",
            pid=4712 if self.upgrades and not self.upgrade_fails else 4711,
            cluster="shop",
            uptime_s=12.5,
            members={"alive": 2, "suspect": 0, "dead": 1, "left": 0},
            pins=len(self.pinned),
            in_sync=not self.unready,
            ready=not self.unready,
            reason=self.unready,
            quorate=self.quorate,
            protocol=2,
            listeners={"web": "127.0.0.1:8080"},
            sync=SYNC,
            workers=self.workers,
            store=StoreView(written=not self.disk_trouble, reason=self.disk_trouble, waiting=1234),
            upgrade=UpgradeView(
                failed_at="2026-01-02T05:00:00Z" if self.upgrades and self.upgrade_fails else None,
                reason=self.upgrade_fails,
            ),
            config=ConfigView(
                loaded_at="2026-01-02T03:04:05Z",
                failed_at="2026-01-02T04:00:00Z" if self.faults else None,
                faults=self.faults,
            ),
        )

    def ready(self) -> tuple[bool, str]:
        return not self.unready, self.unready

    def members(self) -> tuple[MemberView, ...]:
        states = {"lb-1": "alive", "lb-2": "alive", "lb-3": "dead"}
        return tuple(
            MemberView(
                name=name,
                address="127.0.0.1:7946",
                state=state,
                incarnation=1_700_000_000_000,
                boot_id="00ff00ff00ff00ff",
                synced=True,
                is_self=name == "lb-1",
                for_s=90.0,
                protocol=(1, 2),
                features=("broadcast",),
                sync=SYNC.get(name),
            )
            for name, state in states.items()
        )

    def heals(self) -> tuple[HealView, ...]:
        if self.moves < 0:
            return ()
        move = MoveView(key="ab" * 16, pool=POOL, moved_from="s1", moved_to="s2")
        return (
            HealView(
                at="2026-01-02T03:04:05.678+00:00",
                members=("lb-2",),
                over=True,
                pins_moved=self.moves,
                moves=(move,) * self.moves,
            ),
        )

    def pools(self) -> tuple[PoolView, ...]:
        backends = tuple(
            replace(
                make_backend(name),
                state=self.states.get(name, BackendState.UP),
                order=self._order(name),
            )
            for name in ("s1", "s2")
        )
        other = PoolView(name="other", balance="rendezvous", backends=(make_backend("x1"),))
        return PoolView(name=POOL, balance="round-robin", backends=backends), other

    def _order(self, backend: str) -> OrderView | None:
        state = self.states.get(backend)
        at = "2026-01-02T03:04:05.678+00:00"
        return None if state is None else OrderView(state=state, by="lb-2", at=at)

    async def pins(
        self, pool: PoolName | None, backend: BackendName | None, limit: int
    ) -> tuple[PinView, ...]:
        found = [
            make_pin(key, pinned_to)
            for key, pinned_to in self.pinned.items()
            if pool in (None, POOL) and backend in (None, pinned_to)
        ]
        return tuple(found[:limit])

    def explain(self, pool: PoolName, key: str) -> Explanation | None:
        if pool != POOL or key not in self.pinned:
            return None
        return Explanation(
            key="0123456789abcdef0123456789abcdef",
            pool=POOL,
            backend=self.pinned[key],
            by="header",
            made_by="lb-2",
            made_at="2026-01-02T03:04:05Z",
            epoch=1,
            rank="quorate",
            expires_in_s=1180.0,
            home="lb-2",
            backup="lb-1",
            backend_state="up",
            history=(PinChange(at="2026-01-02T03:04:05Z", what="moved from s2: s2 is down"),),
        )

    def meters(self) -> Meters:
        return Meters(
            requests={("web", "2xx"): 7},
            pins_by_outcome={"hit": 5, "new": 2},
            pins={("app", "s1"): 1},
            datagrams_refused={"seal": 3},
            sync_differing={"lb-2": 4},
            sync_age_s={"lb-2": 3.5},
        )

    async def unpin(self, pool: PoolName, key: str) -> bool:
        return self.pinned.pop(key, None) is not None

    async def set_backend_state(
        self, pool: PoolName, backend: BackendName, state: BackendState
    ) -> ReceiptView:
        self.states[backend] = state
        return ReceiptView(acknowledged=("lb-2",), waiting_for=self.deaf, gone=())

    def keys(self) -> tuple[KeyView, ...]:
        return tuple(
            KeyView(
                id=key_id,
                sealing=key_id == self.sealing,
                members={
                    "lb-1": "sealing" if key_id == self.sealing else "held",
                    "lb-2": "held",
                    "lb-3": "unknown",
                },
            )
            for key_id in self.held
        )

    async def install_key(self, secret: ClusterSecret) -> KeyStep:
        key_id = key_id_of(secret).hex()
        self.held.append(key_id)
        return self._step(key_id)

    async def use_key(self, key_id: KeyId, *, force: bool) -> KeyStep:
        if key_id.hex() not in self.held:
            raise AdminError(404, "unknown_key", "there is no such secret here")
        if self.reluctant and not force:
            raise AdminError(409, "not_installed", "not all members have the secret: lb-2")
        self.sealing = key_id.hex()
        return self._step(key_id.hex())

    async def remove_key(self, key_id: KeyId, *, force: bool) -> KeyStep:
        if key_id.hex() not in self.held:
            raise AdminError(404, "unknown_key", "there is no such secret here")
        if self.reluctant and not force:
            raise AdminError(409, "in_use", "members may still need the secret: lb-2")
        self.held.remove(key_id.hex())
        return self._step(key_id.hex())

    def _step(self, key_id: str) -> KeyStep:
        return KeyStep(
            id=key_id,
            acknowledged=("lb-1",) if self.silent else ("lb-1", "lb-2"),
            waiting_for=("lb-2",) if self.silent else (),
            away=("lb-3",),
        )

    async def forget(self, member: str) -> None:
        states = {known.name: known.state for known in self.members()}
        if member not in states:
            raise unknown_member(member)
        if states[member] != "dead":
            raise AdminError(409, "not_dead", f"{member} is {states[member]}")
        self.forgotten.append(member)

    async def reload(self) -> ReloadView:
        if self.faults:
            raise AdminError(422, "faulty_configuration", "not reloaded", faults=self.faults)
        return ReloadView(changes=self.changes)

    async def upgrade(self) -> UpgradeOrder:
        if self.faults:
            raise AdminError(409, "not_upgraded", "refused", faults=self.faults)
        self.upgrades += 1
        return UpgradeOrder(pid=4712)

    async def leave(self) -> None:
        self.left = True
