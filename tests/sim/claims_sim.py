"""A small deterministic simulator of claims: the real machines, a heap of deliveries, one seed.

Each node has a claim machine, a dict for a store and a replication log. Links are ordered and
delay each message at random; a crash cuts every link of the node at a random place. Membership
is a script of views that every node adopts in order, each at its own time.

What is checked, at each answer and at the end, is what design §8 calls invariants 3, 4 and 5.
"""

import hashlib
import heapq
import math
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from meshlb.core.sticky.claims import ClaimMachine
from meshlb.core.sticky.events import (
    ClaimDone,
    ClaimStarted,
    Effect,
    PeerConnected,
    PeerFed,
    PeerLost,
    PeerMessages,
    PeerWord,
    Send,
    Stored,
    ViewChanged,
)
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin, Proposal, record_from_pin
from meshlb.model import BackendName, BootId, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.messages import PullChunk, Rank

START = 1_700_000_000.0
BACKENDS = ("s1", "s2", "s3", "s4")

DELAYS_S = (0.001, 0.003, 0.02)
"""Mean delay of a message; one of them for a whole run."""

VIEW_LAG_S = 0.1
VIEW_LAG_LATE_S = 1.0
"""How late a node adopts a view: usually, and when it is late, as who is removed often is."""


class DictStore(dict[SessionKey, Pin]):
    def put(self, key: SessionKey, pin: Pin) -> None:
        self[key] = pin


@dataclass
class Node:
    name: NodeName
    machine: ClaimMachine
    store: DictStore
    log: ReplicationLog
    is_down: bool = False
    links: set[NodeName] = field(default_factory=set)
    timer_at: float | None = None


@dataclass
class Findings:
    """What must not happen."""

    conflicts: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    unanswered: int = 0

    def __bool__(self) -> bool:
        return bool(self.conflicts or self.lost or self.unequal or self.unanswered)


class ClaimsSim:
    """One run of one seed."""

    def __init__(
        self, seed: int, *, nodes: int, delay_s: float | None = None, traced: bool = False
    ) -> None:
        self.seed = seed
        self.now = START
        self._random = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = 0
        self._arrivals: dict[tuple[NodeName, NodeName], float] = {}
        self._cuts: dict[tuple[NodeName, NodeName], float] = {}
        self._slow = delay_s or self._random.choice(DELAYS_S)
        self.nodes: dict[NodeName, Node] = {}
        self._answers: dict[tuple[SessionKey, int], set[str]] = {}
        self._tokens = 0
        self._open_tokens: dict[int, tuple[NodeName, SessionKey]] = {}
        self.outcomes: dict[str, int] = {}
        self.findings = Findings()
        self._trace = hashlib.sha256() if traced else None
        self.owners: tuple[NodeName, ...] = tuple(NodeName(f"n{i}") for i in range(nodes))
        for name in self.owners:
            self._add(name)
        for name in self.owners:
            for other in self.owners:
                if name < other:
                    self._connect(name, other)
        self.change_view(self.owners)

    # The world ---------------------------------------------------------------------------

    def at(self, delay: float, action: Callable[[], None]) -> None:
        self._ties += 1
        heapq.heappush(self._heap, (self.now + delay, self._ties, action))

    def trace_hash(self) -> str:
        """Names all that was delivered, and when; of a traced run."""
        assert self._trace is not None
        return self._trace.hexdigest()

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= START + until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = START + until

    def _add(self, name: NodeName) -> Node:
        store = DictStore()
        boot_id = BootId(self._random.getrandbits(64))
        node = Node(name, ClaimMachine(name, store), store, ReplicationLog(boot_id))
        self.nodes[name] = node
        return node

    def _connect(self, one: NodeName, other: NodeName) -> None:
        for here, there in ((one, other), (other, one)):
            node = self.nodes[here]
            node.links.add(there)
            self._tell(node, PeerConnected(there, self.nodes[there].log.boot_id))
        for here, there in ((one, other), (other, one)):
            node = self.nodes[here]
            node.log.open(there, 0, 0)
            self._flush(node, there)
            self._tell(node, PeerFed(there))

    def _tell(self, node: Node, event: object) -> None:
        if not node.is_down:
            self._carry_out(node, node.machine.receive(event, self.now))  # type: ignore[arg-type]  # any event

    def _carry_out(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Stored):
                node.log.append(effect.key, effect.pin)
                for peer in sorted(node.links):
                    self._flush(node, peer)
            elif isinstance(effect, Send):
                self._send(node.name, effect.peer, effect.message)
            else:
                self._answered(node, effect)
        self._set_timer(node)

    def _flush(self, node: Node, peer: NodeName) -> None:
        while (delta := node.log.next_delta(peer, self.now)) is not None:
            self._send(node.name, peer, delta)

    def _send(self, sender: NodeName, to: NodeName, message: PeerWord) -> None:
        if to not in self.nodes[sender].links:
            return
        link = (sender, to)
        delay = self._random.expovariate(1 / self._slow)
        arrival = max(self.now + delay, self._arrivals.get(link, 0.0))
        self._arrivals[link] = arrival

        def deliver() -> None:
            if arrival <= self._cuts.get(link, math.inf):
                if self._trace is not None:
                    self._trace.update(f"{arrival} {sender} {to} {message}".encode())
                self._tell(self.nodes[to], PeerMessages(sender, (message,)))

        self.at(arrival - self.now, deliver)

    def _set_timer(self, node: Node) -> None:
        deadline = node.machine.next_deadline()
        if deadline is None or (node.timer_at is not None and node.timer_at <= deadline):
            return
        node.timer_at = deadline

        def ring() -> None:
            if node.timer_at == deadline and not node.is_down:
                node.timer_at = None
                self._carry_out(node, node.machine.handle_timer(self.now))

        self.at(max(0.0, deadline - self.now), ring)

    # What the script may do --------------------------------------------------------------

    def claim(self, name: NodeName, key: SessionKey, *, move: bool = False) -> None:
        node = self.nodes[name]
        if node.is_down:
            return
        pin = node.machine.replica.look_up(key, self.now)
        if pin is not None and not move:
            self._note_answer(name, key, pin)
            return
        backend = BackendName(self._random.choice(BACKENDS))
        moved: tuple[BackendName, int] = (BackendName(""), 0)
        if pin is not None:
            moved = (pin.backend, pin.epoch)
        self._tokens += 1
        self._open_tokens[self._tokens] = (name, key)
        proposal = Proposal(key, PoolName("app"), backend, KeySource.HEADER, 1_200.0, None, *moved)
        self._tell(node, ClaimStarted(self._tokens, proposal))

    def change_view(self, owners: tuple[NodeName, ...]) -> None:
        """A new view, adopted by each node in its own time, later ones after earlier ones."""
        self.owners = owners
        # As membership names views: who flaps brings an older view's name back.
        view_id = zlib.crc32(" ".join(sorted(owners)).encode())
        view = ViewChanged(tuple(sorted(owners)), view_id, quorate=True)
        for name in sorted(self.nodes):
            if not self.nodes[name].is_down:
                self._deliver_view(name, view)

    def _deliver_view(self, name: NodeName, view: ViewChanged) -> None:
        link = (NodeName("view"), name)
        late = 0.75 if name not in view.owners else 0.25
        lag_s = VIEW_LAG_LATE_S if self._random.random() < late else VIEW_LAG_S
        arrival = max(self.now + self._random.random() * lag_s, self._arrivals.get(link, 0.0))
        self._arrivals[link] = arrival
        self.at(arrival - self.now, lambda: self._tell(self.nodes[name], view))

    def crash(self, name: NodeName) -> None:
        """The node stops; what it sent last arrives at some peers and not at others."""
        node = self.nodes[name]
        node.is_down = True
        for peer in sorted(node.links):
            self._cuts[name, peer] = self.now + self._random.random() * self._slow
            self.nodes[peer].links.discard(name)
            self.at(
                self._random.random() * 0.1,
                lambda p=peer: self._tell(self.nodes[p], PeerLost(name)),
            )
        for token in [t for t, (asker, _) in self._open_tokens.items() if asker == name]:
            del self._open_tokens[token]

    def join(self, name: NodeName) -> None:
        self._add(name)
        for other in sorted(self.nodes):
            if other != name and not self.nodes[other].is_down:
                self._connect(other, name)
        source = self._random.choice(
            sorted(n for n, node in self.nodes.items() if n != name and not node.is_down)
        )
        pins = tuple(
            record_from_pin(key, pin, now=self.now) for key, pin in self.nodes[source].store.items()
        )
        self._send(source, name, PullChunk(1, pins, True))

    # What must hold ----------------------------------------------------------------------

    def _answered(self, node: Node, done: ClaimDone) -> None:
        _, key = self._open_tokens.pop(done.token)
        self.outcomes[done.outcome] = self.outcomes.get(done.outcome, 0) + 1
        self._note_answer(node.name, key, done.pin)

    def _note_answer(self, name: NodeName, key: SessionKey, pin: Pin) -> None:
        if pin.rank is not Rank.QUORATE:
            return
        backends = self._answers.setdefault((key, pin.epoch), set())
        backends.add(pin.backend)
        if len(backends) > 1:
            self.findings.conflicts.append(
                f"{self.now - START:.3f} {name}: {key[:2].hex()} epoch {pin.epoch} has {backends}"
            )

    def finish(self) -> Findings:
        """Check what has to hold once all is quiet."""
        self.findings.unanswered = len(self._open_tokens)
        for node in self.nodes.values():
            if node.machine.counters.conflicts:
                self.findings.conflicts.append(f"{node.name} has counted conflicts")
        live = [node for node in self.nodes.values() if not node.is_down]
        for key, epoch in self._answers:
            for node in live:
                pin = node.store.get(key)
                if pin is None or pin.epoch < epoch:
                    self.findings.lost.append(f"{node.name}: {key[:2].hex()} epoch {epoch}")
        tables = [
            {key: (pin.epoch, pin.backend, pin.rank) for key, pin in node.store.items()}
            for node in live
        ]
        for node, table in zip(live, tables, strict=True):
            if table != tables[0]:
                different = {
                    k for k in table.keys() | tables[0].keys() if table.get(k) != tables[0].get(k)
                }
                self.findings.unequal.append(f"{node.name}: {len(different)} keys")
        return self.findings


class Script:
    """Storms of claims for new keys, and now and then a fault, for one seed.

    Nodes leave, join, flap (are taken for dead, and come back) and crash. A node that was removed
    from the view alive may go on for a while as if it were an owner; two of them at a time could
    confirm to each other, which is the double fault that no protocol of two holders survives. So
    removals are as far apart as the slowest adoption of a view; everything else overlaps freely.
    """

    STORM_EVERY_S = 0.1
    STORM_KEYS = 4
    REMOVAL_EVERY_S = 1.1
    CRASHES_MAX = 1

    def __init__(self, seed: int, *, lasts_s: float = 3.0, traced: bool = False) -> None:
        self.sim = ClaimsSim(seed, nodes=3 + seed % 3, traced=traced)
        self._random = random.Random(seed + 1_000_000)
        self._crashes = 0
        self._lasts_s = lasts_s
        for step in range(int(lasts_s / self.STORM_EVERY_S)):
            self.sim.at(0.3 + step * self.STORM_EVERY_S, self._storm)
        at = 0.3
        while at < lasts_s:
            self.sim.at(at + self._random.random() * 0.2, self._remove)
            if self._random.random() < 0.5:
                self.sim.at(at + self._random.random(), self._join)
            at += self.REMOVAL_EVERY_S

    def run(self) -> ClaimsSim:
        self.sim.run(self._lasts_s + 8.0)
        self.sim.finish()
        return self.sim

    def _storm(self) -> None:
        for _ in range(self.STORM_KEYS):
            key = SessionKey(self._random.randbytes(16))
            for name in sorted(self.sim.nodes):
                for _ in range(self._random.choice((0, 1, 1, 2))):
                    is_move = self._random.random() < 0.15
                    self.sim.at(
                        self._random.random() * 0.4,
                        lambda name=name, key=key, is_move=is_move: self.sim.claim(
                            name, key, move=is_move
                        ),
                    )

    def _remove(self) -> None:
        sim = self.sim
        owners = sorted(sim.owners)
        if len(owners) < 3:
            return
        victim = self._random.choice(owners)
        kind = self._random.choice(("leave", "flap", "crash"))
        if kind == "crash" and self._crashes < self.CRASHES_MAX:
            self._crashes += 1
            sim.crash(victim)
            sim.at(self._random.random() * 0.6, lambda: self._without(victim))
            return
        self._without(victim)
        if kind == "flap":
            sim.at(self._random.random() * 0.8, lambda: sim.change_view((*sim.owners, victim)))

    def _without(self, victim: NodeName) -> None:
        self.sim.change_view(tuple(name for name in self.sim.owners if name != victim))

    def _join(self) -> None:
        name = NodeName(f"j{len(self.sim.nodes)}")
        self.sim.join(name)
        self.sim.at(0.3, lambda: self.sim.change_view((*self.sim.owners, name)))


def run_seed(seed: int, *, traced: bool = False) -> ClaimsSim:
    """One run, from which `findings` can be read."""
    return Script(seed, traced=traced).run()
