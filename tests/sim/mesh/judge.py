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
    ClaimAnswer,
    Delta,
    Message,
    PinRecord,
    PullChunk,
    Rank,
    Replicate,
    ReplicateAnswer,
    Verdict,
)
from tests.sim.mesh.hearing import Hearing
from tests.sim.mesh.ledger import Books, Identity, identity
from tests.sim.mesh.mesh import SimMesh
from tests.sim.mesh.ports import Datagram
from tests.sim.mesh.process import Process
from tests.sim.mesh.tongues import TODAY

ANSWER_S_MAX = 4.0
"""A claim is answered within this, come what may, by a node that runs."""

OUTBOX_S_MAX = 0.1
"""What a node says leaves it within this."""

DEATH_S_MAX = 10.0
"""A crash is known to all who are well after this."""

ALONE_S_MAX = 4.0
"""Who is cut off from everybody is in a minority after this."""


class Violation(Exception):  # noqa: N818 - what the judge says, not an error of its own
    """An invariant does not hold."""


@dataclass
class Ask:
    """A claim that is under way."""

    process: Process
    key: SessionKey
    since: float
    least_epoch: int


def is_majority(process: Process) -> bool:
    """Whether a node may believe to be with the majority, by what it knows of the others."""
    members = process.membership.members()
    live = sum(member.state <= MemberState.SUSPECT for member in members)
    return 2 * live > sum(member.state is not MemberState.LEFT for member in members)


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
        self._opened: set[tuple[BootId, NodeName, BootId, int]] = set()
        self._requests: dict[tuple[BootId, NodeName, int], SessionKey] = {}
        self._hearing = Hearing()
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
        self.books.wrote(process, key, new)

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
        if new.backend:  # an operator's word to unpin is taken anywhere
            self._check_standing(process, new.rank)
        is_bump = old is not None and new.epoch > old.epoch and new.backend
        if is_bump and not is_majority(process):
            self.fail(8, f"{process.name}, in a minority, moved {key[:3].hex()}: {old} to {new}")

    def _check_standing(self, process: Process, rank: Rank) -> None:
        """Invariant 8: who has met only a few of all hosts since its start agrees on nothing."""
        met = len(process.membership.members())
        if rank is Rank.QUORATE and 2 * met <= len(self.mesh.plan.hosts):
            self.fail(8, f"{process.name} makes an agreed pin, and has met {met} hosts")

    def committed(self, process: Process, records: dict[SessionKey, Pin]) -> None:
        self.books.committed(process, records)

    # Words between nodes -----------------------------------------------------------------

    def linked(self, process: Process, peer: NodeName) -> None:
        self._hearing.linked(process, peer)

    def said(self, process: Process, peer: NodeName, message: Message) -> None:
        if isinstance(message, Replicate):
            self._replicates(process, message)
        elif isinstance(message, ReplicateAnswer) and message.verdict is Verdict.DONE:
            self._agrees(process, peer, message.request)

    def marked(self, process: Process, peer: NodeName, view_id: int) -> None:
        """Invariant 7: a mark counts once all that came ahead of it is here."""
        if fault := self._hearing.counted(process, peer, view_id):
            self.fail(7, fault)

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
        for owner in ownership.owners:
            is_told = self._hearing.has_marked(process, owner, ownership.view_id)
            if owner != process.name and not is_told:
                self.fail(7, f"{process.name} decides on {key[:3].hex()} without {owner}'s mark")

    def _check_proposal(
        self, process: Process, epoch: int, known: Pin | None, made: tuple[SessionKey, Identity]
    ) -> None:
        if made in self._seen:
            return
        self._seen.add(made)
        self._check_standing(process, Rank(made[1][1]))
        if known is None or epoch <= known.epoch:
            return
        if not is_majority(process):
            self.fail(8, f"{process.name}, in a minority, proposes epoch {epoch} after {known}")

    def left(self, process: Process, messages: tuple[Message, ...]) -> None:
        """Invariant 5: write, commit, then send."""
        for message in messages:
            pins: tuple[PinRecord | None, ...] = ()
            if isinstance(message, Delta | PullChunk):
                pins = message.pins
            elif isinstance(message, ClaimAnswer):
                pins = (message.pin,)
            for pin in pins:
                if pin is not None and not process.store.is_written(pin.key):
                    self.fail(5, f"{process.name} tells of {pin} before it is on its disk")

    def heard(self, process: Process, peer: NodeName, messages: tuple[Message, ...]) -> None:
        boot = process.me.boot_id
        teller = self.mesh.hosts[peer].process
        for delta in messages if teller is not None else ():
            misplaced = isinstance(delta, Delta) and self._hearing.misplaced(process, teller, delta)
            if misplaced:
                self.fail(3, misplaced)
        self._hearing.heard(process, peer, messages)
        for message in messages:
            if isinstance(message, Replicate):
                self._requests[boot, peer, message.request] = message.pin.key
            elif isinstance(message, ReplicateAnswer) and message.verdict is Verdict.DONE:
                made = self._proposed.get((boot, message.request))
                if made is not None:
                    self.books.pairs[made] = (process.name, peer)

    def _agrees(self, backup: Process, home: NodeName, request: int) -> None:
        """Invariant 7: a deposed home finds no backup."""
        key = self._requests[backup.me.boot_id, home, request]
        slot = (key[0] << 8 | key[1]) >> 6
        owners = backup.membership.ownership.owners
        ranked = sorted(owners, key=lambda owner: (weight(slot, owner), owner), reverse=True)
        if ranked[:2] != [home, backup.name]:
            self.fail(7, f"{backup.name} agrees with {home}, where {ranked[:2]} should decide")

    def accepted(self, process: Process, datagram: Datagram) -> None:
        """Invariant 11: a datagram counts once, and never one from before this start.

        Version 1 knows no challenge, so nobody can tell its recordings.
        """
        has_challenges = process.tongue is TODAY and not isinstance(datagram.messages, bytes)
        if datagram.sent_at < process.started_at and has_challenges:
            self.fail(11, f"{process.name} took a recording of {datagram.sender}")
        opened = (process.me.boot_id, datagram.sender, datagram.boot_id, datagram.counter)
        if opened in self._opened:
            self.fail(11, f"{process.name} took a datagram of {datagram.sender} twice")
        self._opened.add(opened)

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
        idle_s = self.books.use(key, pin)
        if idle_s > self.books.idle_s_max():
            self.fail(9, f"{process.name} answered {key[:3].hex()} with {pin}, idle for {idle_s}")
        contradiction = self.books.confirm(process, key, pin)
        if contradiction:
            self.fail(4, contradiction)

    def unpinned(self, process: Process, key: SessionKey) -> None:
        for known in self.books.confirmed[key].values():
            known.until = min(known.until, self.mesh.world.now)

    # Time --------------------------------------------------------------------------------

    def stepped(self, process: Process) -> None:
        """After each step of a process."""
        if peer := self._hearing.stepped(process):
            self.fail(7, f"{process.name} has not noticed a gap in what {peer} told")
        self._note_incarnation(process)

    def killed(self, process: Process) -> None:
        """In the middle of a step; what it has said of itself may have got out."""
        self._hearing.killed()
        self._note_incarnation(process)

    def _note_incarnation(self, process: Process) -> None:
        host = self.mesh.hosts[process.name]
        incarnation = process.membership.me.incarnation
        if incarnation > host.highest_incarnation:
            host.highest_incarnation = incarnation

    def look(self) -> None:
        """Check what takes time; called now and then."""
        self._look_at_claims()
        self._look_for_the_dead()
        self._look_at_the_cut_off()
        self._look_at_bounds()
        self._look_at_outboxes()

    def _look_at_claims(self) -> None:
        """No client waits for ever."""
        now = self.mesh.world.now
        for ticket, ask in list(self._asks.items()):
            if not ask.process.is_running:
                del self._asks[ticket]
            elif ask.process.is_paused:
                ask.since = now
            elif now - ask.since > ANSWER_S_MAX:
                self.fail(10, f"{ask.process.name} has not answered for {ask.key[:3].hex()}")

    def _look_for_the_dead(self) -> None:
        """Invariant 2: a crash is known in time."""
        now = self.mesh.world.now
        for host in self.mesh.hosts.values():
            if host.down_since is None or now - host.down_since < DEATH_S_MAX:
                continue
            for process in self.mesh.processes():
                members = {member.name: member for member in process.membership.members()}
                known = members.get(host.name)
                if known is None or not known.is_live or process.is_paused:
                    continue
                if not self.books.is_touched(process.name, now):
                    self.fail(2, f"{process.name} does not know that {host.name} has ended")

    def _look_at_the_cut_off(self) -> None:
        """Invariant 8: who was well and hears nobody any more knows in time that it is alone."""
        for process in self.mesh.processes():
            since = self.books.alone_since(process.name, self.mesh.world.now)
            if since is None or self.mesh.world.now - max(since, process.started_at) < ALONE_S_MAX:
                continue
            if process.membership.ownership.quorate:
                self.fail(8, f"{process.name} takes itself for a majority, and is alone")

    def _look_at_bounds(self) -> None:
        """Invariant 13, where a plan sets a small bound."""
        for process in self.mesh.processes():
            entries = len(process.log)
            if entries > self.mesh.plan.log_entries_max:
                self.fail(13, f"the log of {process.name} holds {entries} entries")

    def _look_at_outboxes(self) -> None:
        """Invariant 10: what is said leaves with the next turn, whether or not peers speak."""
        for process in self.mesh.processes():
            if process.streams.delay_s > OUTBOX_S_MAX and not process.is_paused:
                self.fail(10, f"{process.name} keeps to itself what it says")

    @property
    def is_waiting(self) -> bool:
        """Whether some claim is under way."""
        return any(ask.process.is_running for ask in self._asks.values())
