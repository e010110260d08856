"""The mesh as a node sees it: a stick table, members, and the operator's word.

Owns what every node has: its identity, its table and the words of operators; it is the public
face of `meshlb.cluster`. What only a member of a cluster has is its `participation`. Without one
the same table and the same claim machine work for a node that stands alone, and no socket is
opened. Must not know the proxy.
"""

import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import trio

from meshlb.cluster.broadcasts import Handler, Receipt
from meshlb.cluster.clock import TableClock
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.farewell import say_farewell
from meshlb.cluster.heals import Heals
from meshlb.cluster.keys import ClusterKeys
from meshlb.cluster.options import ClusterOptions
from meshlb.cluster.overrides import Overrides
from meshlb.cluster.participation import Participation, wall_ms
from meshlb.cluster.pins import NoStreams, PinAgent
from meshlb.cluster.repair import Sync
from meshlb.cluster.story import KeyStory, Stories
from meshlb.cluster.streams import LinkStreams
from meshlb.cluster.surroundings import BulkStore, Streams, TableStore
from meshlb.cluster.table import MemberTable
from meshlb.core.sticky.events import ViewChanged
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.standing import ClaimCounters
from meshlb.core.swim.member import Member
from meshlb.model import (
    Address,
    BackendName,
    BackendState,
    BootId,
    MemberState,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.net.reactor import Reactor
from meshlb.store.cluster_file import NO_CLUSTER
from meshlb.store.keyring import KeyringFile
from meshlb.store.overrides import OverridesFile
from meshlb.wire.broadcast_words import Payload, Topic
from meshlb.wire.messages import BackendOverride
from meshlb.wire.seal import cluster_label
from meshlb.wire.versions import OURS

BROADCAST_S: Final = 2.0
"""How long a broadcast waits for acknowledgements unless told otherwise."""
ALONE: Final = Address("127.0.0.1", 0)
"""The address of a node that has no cluster port."""

BOOT_ID_BYTES: Final = 8


class Mesh:
    """One per node; made inside trio. The cluster port is bound at once, and used by `run`."""

    def __init__(
        self,
        name: NodeName,
        *,
        cluster: ClusterOptions | None,
        store: TableStore,
        reactor: Reactor,
        bulk: BulkStore | None = None,
        data_dir: Path | None = None,
        last_contact: float | None = None,
        ports: Sequence[socket.socket] = (),
        on_override: Callable[[BackendOverride], None] = lambda word: None,
        on_keys: Callable[[], None] = lambda: None,
    ) -> None:
        """Bind and wire.

        Args:
            name: this node's name.
            cluster: None for a node that stands alone.
            store: where this node's pins are; the caller closes it after `run`.
            reactor: of the whole node; the caller runs it as long as this.
            bulk: it once more, where its table can be read and replaced in bulk.
            data_dir: where the cluster's secrets and its operators' words are kept; None: in
                memory only.
            ports: the cluster's UDP and TCP socket, where they are bound already; used up.
            last_contact: table time at which `store` was last with the majority; None: unknown.
            on_override: told of each new word of an operator, here or at another node.
            on_keys: called after each change of `keys`.

        Raises:
            ListenError: when the cluster address cannot be bound.
            StoreError: when the kept secrets or words cannot be read.
        """
        self.name = name
        self.clock, self.counters = TableClock(), MeshCounters()
        self._on_override = on_override
        label = NO_CLUSTER if cluster is None else cluster_label(cluster.name)
        self._overrides = Overrides(name, OverridesFile(data_dir, label))
        self._boot_id = BootId(int.from_bytes(secrets.token_bytes(BOOT_ID_BYTES), "big"))
        streams = LinkStreams()
        self._pins = self._make_pins(
            store, bulk, reactor, streams=NoStreams() if cluster is None else streams
        )
        if last_contact is not None:
            self._pins.turns.catching_up.came_back(last_contact, self.clock.now())
        self.table = MemberTable(
            self._pins,
            self.clock,
            is_strict=cluster is not None and cluster.is_strict,
            is_quorate=lambda: self.is_quorate,
        )
        """The stick table, for the proxy."""
        self._stories = Stories()
        self._part: Participation | None = None
        """None: the node stands alone."""
        if cluster is not None:
            file = KeyringFile(data_dir, label)
            self._part = self._join(cluster, file, ports, reactor, on_keys)
            streams.links = self._part.links

    def _make_pins(
        self, store: TableStore, bulk: BulkStore | None, reactor: Reactor, *, streams: Streams
    ) -> PinAgent:
        return PinAgent(
            name=self.name,
            boot_id=self._boot_id,
            store=store,
            bulk=bulk,
            clock=self.clock,
            streams=streams,
            counters=self.counters,
            reactor=reactor,
        )

    def _join(
        self,
        cluster: ClusterOptions,
        file: KeyringFile,
        ports: Sequence[socket.socket],
        reactor: Reactor,
        on_keys: Callable[[], None],
    ) -> Participation:
        return Participation(
            self.name,
            self._boot_id,
            cluster,
            turns=self._pins.turns,
            file=file,
            overrides=self._overrides,
            ports=ports,
            reactor=reactor,
            counters=self.counters,
            on_override=self._on_override,
            on_keys=on_keys,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; started once claims are answered, in sync or not yet."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pins.run)
                if self._part is None:
                    alone = ViewChanged((self.name,), view_id=self._boot_id, quorate=True)
                    self._pins.turns.receive(alone)
                else:
                    await nursery.start(self._part.run)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self.close()

    def close(self) -> None:
        """Close the cluster port; `run` does so at its end, whoever never runs must."""
        if self._part is not None:
            self._part.close()

    # What a node asks --------------------------------------------------------------------

    @property
    def keys(self) -> ClusterKeys | None:
        """The cluster's secrets; None for a node that stands alone."""
        return None if self._part is None else self._part.keys

    @property
    def address(self) -> Address:
        """Where the other members reach this node."""
        return ALONE if self._part is None else self._part.membership.me.address

    @property
    def claim_counters(self) -> ClaimCounters:
        """The claim machine's own counters; `conflicts` should stay 0."""
        return self._pins.turns.claims.counters

    @property
    def is_quorate(self) -> bool:
        """Whether this node is with the majority."""
        return self._part is None or self._part.membership.ownership.quorate

    def readiness(self) -> tuple[bool, str]:
        """Whether the table is in sync; if not, what is missing."""
        reason = "" if self._part is None else self._part.agent.reason
        return not reason, reason

    def members(self) -> tuple[Member, ...]:
        """Every member that this node knows, itself first."""
        if self._part is not None:
            return self._part.membership.members()
        me = Member.born(self.name, ALONE, self._boot_id, 0, versions=OURS, now=0.0)
        return (replace(me, synced=True),)

    def explain(self, key: SessionKey) -> KeyStory | None:
        """Why `key` goes where it goes; None where this node has no live pin of it."""
        pin = self.table.look_up(key, self.clock.now())
        if pin is None:
            return None
        owners = (self.name,) if self._part is None else self._part.membership.ownership.owners
        return self._stories.tell(key, pin, owners=owners, history=self._pins.turns.history)

    def sync(self) -> dict[NodeName, Sync]:
        """How this node's table and that of each linked peer compare, as of the last time."""
        return self._pins.turns.repair.sync()

    def heals(self) -> Heals:
        """What moved when partitions ended."""
        return self._pins.turns.heals

    def overrides(self) -> tuple[BackendOverride, ...]:
        """Every operator's word known here."""
        return self._overrides.all()

    def override_on(self, pool: PoolName, backend: BackendName) -> BackendOverride | None:
        """The latest operator's word on a backend; None where there was none."""
        return self._overrides.on(pool, backend)

    def unsettled(self, key: SessionKey) -> None:
        """There is a provisional pin of `key` in the store."""
        self._pins.turns.unsettled(key)

    def fading(self, key: SessionKey, stone: Pin) -> bool:
        """A tombstone has little time left; True where it got more, because a member is away."""
        if self._part is None or self._part.membership.is_whole:
            return False
        return self._pins.turns.prolong(key, stone)

    # What a node does --------------------------------------------------------------------

    def unpin(self, key: SessionKey) -> bool:
        """Forget the pin of `key`, cluster-wide; False where there was none."""
        return self.table.unpin(key)

    async def broadcast(
        self,
        topic: Topic,
        payload: Payload,
        *,
        wait: Literal["all", "none"] = "all",
        timeout_s: float = BROADCAST_S,
    ) -> Receipt:
        """Tell every live member; it is handled where `on_broadcast` was called for the topic.

        Args:
            topic: what it is about.
            payload: at most 16 KiB.
            wait: `all` returns once every member has acknowledged it, or is dead or has left, or
                `timeout_s` has passed; `none` returns at once, and what a broken stream loses
                stays lost.
            timeout_s: how long to wait.

        Returns:
            Who has acknowledged, who has not, and who is gone.
        """
        if self._part is None:
            return Receipt((), (), ())
        wait_s = timeout_s if wait == "all" else 0.0
        return await self._part.agent.broadcast(topic, payload, timeout_s=wait_s)

    def on_broadcast(self, topic: Topic, handler: Handler) -> None:
        """Have `handler` told of what others broadcast about `topic`; it must not raise."""
        if self._part is not None:
            self._part.agent.broadcasts.handle(topic, handler)

    async def set_backend_state(
        self, pool: PoolName, backend: BackendName, state: BackendState
    ) -> Receipt:
        """Put a backend to `UP` (health decides), `DRAINING` or `MAINTENANCE`, cluster-wide.

        Returns:
            Which members have taken that in, and which have not within `BROADCAST_S`.
        """
        word = self._overrides.say(pool, backend, state, wall_ms=wall_ms())
        self._on_override(word)
        if self._part is None:
            return Receipt((), (), ())
        return await self._part.agent.tell_state(word, timeout_s=BROADCAST_S)

    def use(self, cluster: ClusterOptions) -> None:
        """Go by other seeds, secrets and certificates from now on; streams that are open stay."""
        if self._part is not None:
            self._part.use(cluster)

    def forget(self, name: NodeName) -> bool:
        """Count a dead member as having left, cluster-wide; False where it is not dead."""
        is_dead = any(m.name == name and m.state is MemberState.DEAD for m in self.members())
        if is_dead and self._part is not None:
            self._part.agent.forget(name)
        return is_dead

    async def leave(self, *, for_good: bool = True) -> None:
        """Tell everybody that this node leaves, once they have all that it knows; bounded.

        Unless `for_good`, another process takes its place, and they are told only what it knows.
        """
        if self._part is not None:
            await say_farewell(self._part.agent, self._pins.turns, for_good=for_good)
