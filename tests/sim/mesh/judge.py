"""The judge: sees every step of every node and says what must not be (design, section 8).

Owns: the invariants that can be told while a run goes on. The first violation ends the run. What
must hold at the end is `settle`.
"""

from dataclasses import dataclass

from meshlb.core.sticky.homes import weight
from meshlb.core.sticky.pin import Pin
from meshlb.core.swim.events import Effect, MemberChanged
from meshlb.model import BootId, MemberState, NodeName, SessionKey
from meshlb.wire.messages import (
    Message,
    Rank,
    Replicate,
    ReplicateAnswer,
    Verdict,
    ViewMark,
)
from tests.sim.mesh.ledger import Books, Identity, identity
from tests.sim.mesh.mesh import SimMesh
from tests.sim.mesh.process import Process

ANSWER_S_MAX = 4.0
"""A claim is answered within this, come what may, by a node that runs."""

LINGER_MARGIN_S = 20.0
"""Beyond its expiry and this, no client may be told of a pin."""


class Violation(Exception):  # noqa: N818 - what the judge says, not an error of its own
    """An invariant does not hold."""


@dataclass
class Ask:
    """A claim that is under way."""

    process: Process
    key: SessionKey
    since: float
    least_epoch: int


class Judge:
    """Implements `Watcher` and `Notes`."""

    def __init__(self) -> None:
        self.mesh: SimMesh
        self.books: Books
        self.answers = 0
        self._asks: dict[int, Ask] = {}
        self._tickets = 0
        self._incarnations: dict[NodeName, int] = {}
        self._states: dict[tuple[BootId, NodeName, BootId, int], MemberState] = {}
        self._seen: set[tuple[SessionKey, Identity]] = set()
        self._decided: set[tuple[BootId, tuple[SessionKey, Identity]]] = set()
        self._proposed: dict[tuple[BootId, int], tuple[SessionKey, Identity]] = {}
        self._requests: dict[tuple[BootId, NodeName, int], SessionKey] = {}
        self._marks: dict[BootId, dict[NodeName, int]] = {}
        self.moved: dict[BootId, int] = {}
        """Live pins that were replaced by another backend's, by process."""

    def attend(self, mesh: SimMesh) -> None:
        """Judge this mesh."""
        self.mesh = mesh
        self.books = Books(mesh)

    def fail(self, invariant: int, told: str) -> None:
        """End the run."""
        raise Violation(f"invariant {invariant} at {self.mesh.world.now:.3f} s: {told}")

    # The table ---------------------------------------------------------------------------

    def wrote(self, process: Process, key: SessionKey, old: Pin | None, new: Pin) -> None:
        now = process.table_now()
        if old is not None and old.expires_at > now:
            if new.expires_at > now or not new.backend:
                self._check_order(process, key, old, new)
            if new.expires_at > now and old.backend and new.backend and old.backend != new.backend:
                boot = process.me.boot_id
                self.moved[boot] = self.moved.get(boot, 0) + 1
        self._check_bump(process, key, old, new)

    def _check_order(self, process: Process, key: SessionKey, old: Pin, new: Pin) -> None:
        """Invariants 3 and 9: a live record gives way to a greater one only."""

        def order(pin: Pin) -> tuple[int, int, int, str, str]:
            return (pin.epoch, int(pin.rank), -pin.stamp_ms, pin.claimer, pin.backend)

        if order(new) < order(old):
            self.fail(3, f"{process.name} replaced {key[:3].hex()} {old} by {new}")
        if order(new) == order(old) and new.expires_at < old.expires_at - 0.002:
            self.fail(3, f"{process.name} shortened {key[:3].hex()} {old} to {new}")

    def _check_bump(self, process: Process, key: SessionKey, old: Pin | None, new: Pin) -> None:
        """Invariant 8: a minority makes no later epoch."""
        made = (key, identity(new))
        if made in self._seen:
            return
        self._seen.add(made)
        is_bump = old is not None and new.epoch > old.epoch and new.backend
        if is_bump and not process.membership.ownership.quorate:
            self.fail(8, f"{process.name}, in a minority, moved {key[:3].hex()}: {old} to {new}")

    def committed(self, process: Process, records: dict[SessionKey, Pin]) -> None:
        self.books.committed(process, records)

    # Words between nodes -----------------------------------------------------------------

    def linked(self, process: Process, peer: NodeName) -> None:
        self._marks.setdefault(process.me.boot_id, {}).pop(peer, None)

    def said(self, process: Process, peer: NodeName, message: Message) -> None:
        if isinstance(message, Replicate):
            self._replicates(process, message)
        elif isinstance(message, ReplicateAnswer) and message.verdict is Verdict.DONE:
            self._agrees(process, peer, message.request)

    def _replicates(self, process: Process, asked: Replicate) -> None:
        """Invariant 7: no home decides on an absent key before all have told what they know."""
        record = asked.pin
        key = record.key
        made = (key, identity(record))
        is_repeated = (process.me.boot_id, made) in self._decided
        self._decided.add((process.me.boot_id, made))
        self._proposed[process.me.boot_id, asked.request] = made
        known = process.store.get(key)
        self._check_proposal(process, record.epoch, known, made)
        ownership = process.membership.ownership
        if is_repeated or asked.view_id != ownership.view_id:
            return
        marks = self._marks.get(process.me.boot_id, {})
        for owner in ownership.owners:
            is_told = marks.get(owner) == ownership.view_id
            if owner != process.name and not is_told:
                self.fail(7, f"{process.name} decides on {key[:3].hex()} without {owner}'s mark")
            if owner in process.turns.replication.gaps:
                self.fail(7, f"{process.name} decides on {key[:3].hex()} with a gap from {owner}")

    def _check_proposal(
        self, process: Process, epoch: int, known: Pin | None, made: tuple[SessionKey, Identity]
    ) -> None:
        if made in self._seen:
            return
        self._seen.add(made)
        if known is None or epoch <= known.epoch:
            return
        if not process.membership.ownership.quorate:
            self.fail(8, f"{process.name}, in a minority, proposes epoch {epoch} after {known}")

    def heard(self, process: Process, peer: NodeName, messages: tuple[Message, ...]) -> None:
        boot = process.me.boot_id
        for message in messages:
            if isinstance(message, ViewMark):
                self._marks.setdefault(boot, {})[peer] = message.view_id
            elif isinstance(message, Replicate):
                self._requests[boot, peer, message.request] = message.pin.key
            elif isinstance(message, ReplicateAnswer) and message.verdict is Verdict.DONE:
                made = self._proposed.get((boot, message.request))
                if made is not None:
                    self.books.pairs[made] = (process.name, peer)

    def _agrees(self, backup: Process, home: NodeName, request: int) -> None:
        """Invariant 7: a deposed home finds no backup."""
        key = self._requests.pop((backup.me.boot_id, home, request))
        slot = (key[0] << 8 | key[1]) >> 6
        owners = backup.membership.ownership.owners
        ranked = sorted(owners, key=lambda owner: (weight(slot, owner), owner), reverse=True)
        if ranked[:2] != [home, backup.name]:
            self.fail(7, f"{backup.name} agrees with {home}, where {ranked[:2]} should decide")

    # Membership --------------------------------------------------------------------------

    def membership(self, process: Process, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, MemberChanged):
                self._check_member(process, effect)

    def _check_member(self, process: Process, changed: MemberChanged) -> None:
        member = changed.member
        if member.name == process.name:
            self._incarnations[member.name] = max(
                member.incarnation, self._incarnations.get(member.name, 0)
            )
            return
        said = self.mesh.hosts[member.name].highest_incarnation
        if member.incarnation > max(said, self._incarnations.get(member.name, 0)):
            self.fail(1, f"{process.name} holds {member}, which never said so")
        life = (process.me.boot_id, member.name, member.boot_id, member.incarnation)
        before = self._states.get(life, MemberState.ALIVE)
        if member.state < before:
            self.fail(1, f"{process.name} took {member} back from {before.name}")
        self._states[life] = member.state
        if member.state is MemberState.DEAD:
            self._check_death(process, member.name)

    def _check_death(self, process: Process, name: NodeName) -> None:
        """Invariant 2: who is well is not given up."""
        host = self.mesh.hosts[name]
        now = self.mesh.world.now
        if host.running is None or host.running.is_paused or host.has_left:
            return
        if not self.books.is_touched(name, now) and not self.books.is_touched(process.name, now):
            self.fail(2, f"{process.name} gave up {name}, which is well")

    # Answers -----------------------------------------------------------------------------

    def asked(self, process: Process, key: SessionKey) -> int:
        self._tickets += 1
        least = -1
        if process.store.get(key) is None:
            lives = [
                known.pin.epoch
                for known in self.books.confirmed[key].values()
                if known.until > self.mesh.world.now
            ]
            least = max(lives, default=-1)
        self._asks[self._tickets] = Ask(process, key, self.mesh.world.now, least)
        return self._tickets

    def answered(self, ticket: int, pin: Pin) -> None:
        ask = self._asks.pop(ticket)
        self.answers += 1
        self._check_answer(ask.process, ask.key, pin)
        if pin.rank is Rank.QUORATE and pin.epoch < ask.least_epoch:
            touched = any(self.books.is_touched(name, ask.since) for name in self.mesh.hosts)
            if not touched:
                self.fail(6, f"{ask.process.name} was answered {pin} after {ask.least_epoch}")

    def followed(self, process: Process, key: SessionKey, pin: Pin) -> None:
        self.answers += 1
        self._check_answer(process, key, pin)

    def _check_answer(self, process: Process, key: SessionKey, pin: Pin) -> None:
        self.mesh.world.note(process.name, f"answers {key[:3].hex()} {identity(pin)}")
        if not pin.backend:
            self.fail(9, f"{process.name} answered {key[:3].hex()} with a tombstone")
        contradiction = self.books.confirm(process, key, pin)
        if contradiction:
            self.fail(4, contradiction)

    def unpinned(self, process: Process, key: SessionKey) -> None:
        for known in self.books.confirmed[key].values():
            known.until = min(known.until, self.mesh.world.now)

    # Time --------------------------------------------------------------------------------

    def stepped(self, process: Process) -> None:
        """After each step of a process."""
        host = self.mesh.hosts[process.name]
        incarnation = process.membership.me.incarnation
        if incarnation > host.highest_incarnation:
            host.highest_incarnation = incarnation

    def look_at_claims(self) -> None:
        """No client waits for ever; called now and then."""
        now = self.mesh.world.now
        for ticket, ask in list(self._asks.items()):
            if not ask.process.is_running:
                del self._asks[ticket]
            elif ask.process.is_paused:
                ask.since = now
            elif now - ask.since > ANSWER_S_MAX:
                self.fail(10, f"{ask.process.name} has not answered for {ask.key[:3].hex()}")

    @property
    def is_waiting(self) -> bool:
        """Whether some claim is under way."""
        return any(ask.process.is_running for ask in self._asks.values())
