"""Ways to break the core, each of which the simulator must catch: the proof that it can fail.

Owns: the mutations, applied by patching while a `with` lasts, in the simulator only. Must not
know: how they are caught.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from meshlb.cluster.acquaintance import Acquaintance
from meshlb.cluster.agent import Agent
from meshlb.cluster.turns import Turns
from meshlb.core.sticky import backup, claims, merge, replica
from meshlb.core.sticky.backup import Backup
from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.events import ClaimDone, Send, Stored
from meshlb.core.sticky.fallback import Fallback
from meshlb.core.sticky.held import Held
from meshlb.core.sticky.home import Home
from meshlb.core.sticky.intake import Intake
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.replica import Replica
from meshlb.core.swim.contact import Contacts
from meshlb.core.swim.isolation import Isolation
from meshlb.core.swim.membership import Membership
from meshlb.core.swim.suspicion import Suspicions
from meshlb.core.swim.view import Ownership, View
from meshlb.wire.messages import Rank, Verdict
from meshlb.wire.seal import ReplayWindow
from tests.sim.mesh.disk import Store
from tests.sim.mesh.ports import SimPort

Patch = Callable[[Any, str, Any], None]
"""Puts a new attribute in the place of an old one."""


@dataclass(frozen=True)
class Mutation:
    """One way."""

    what: str
    apply: Callable[[Patch], None]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The core is broken like this while this lasts."""
        with ExitStack() as stack:
            self.apply(lambda owner, name, new: stack.enter_context(patch.object(owner, name, new)))
            yield


MUTATIONS: dict[str, Mutation] = {}


def mutation(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Takes a mutation in, under its name and with what its docstring says."""
    name = apply.__name__.replace("_", "-")
    MUTATIONS[name] = Mutation(str(apply.__doc__), apply)
    return apply


# Claims -----------------------------------------------------------------------------------


@mutation
def backup_agrees_with_anybody(put: Patch) -> None:
    """The backup does not look whether the sender is home, nor whether it has a pin itself."""
    put(Backup, "_judge", lambda *_: (Verdict.DONE, None))


@mutation
def backup_knows_nothing(put: Patch) -> None:
    """The backup looks who is home, but not whether it has a better pin."""
    put(backup, "outdoes", lambda *_: False)


@mutation
def confirms_without_ack(put: Patch) -> None:
    """The home confirms a pin before the backup has answered."""
    propose = Home._propose

    def hasty(self: Home, making: Any, pin: Any, backup: Any, now: float, out: Any) -> None:
        propose(self, making, pin, backup, now, out)
        waiters = self._makings.end(making)
        self._confirm(making.key, pin, waiters, now, making.deadline, out)

    put(Home, "_propose", hasty)


@mutation
def skips_the_barrier(put: Patch) -> None:
    """A home decides on absent keys before others have told what they know."""
    put(Barrier, "is_complete", property(lambda self: True))


@mutation
def fallback_counts_as_agreed(put: Patch) -> None:
    """What a node pins on its own word has the rank of what is agreed."""
    make = Fallback._make
    put(Fallback, "_make", lambda self, *args: replace(make(self, *args), rank=Rank.QUORATE))


@mutation
def loses_held_pins(put: Patch) -> None:
    """The backup agrees to hold a pin and forgets it."""
    put(Held, "add", lambda *_, **__: [])


@mutation
def provisional_pins_stay(put: Patch) -> None:
    """Nobody has a provisional pin agreed on but by chance."""
    put(Fallback, "due", lambda self, now: setattr(self, "_settle_at", None) or [])


@mutation
def forgets_in_a_restart_what_is_provisional(put: Patch) -> None:
    """Who finds a provisional pin on its disk takes it for any other (a past fault)."""
    put(Turns, "_recall", lambda *_: None)
    put(Turns, "unsettled", lambda *_: None)


@mutation
def moves_keep_the_epoch(put: Patch) -> None:
    """A key that moves to another backend stays in its epoch."""
    stored = Replica.merge

    def same_epoch(self: Replica, key: Any, theirs: Any, now: float) -> Any:
        mine = self.stored(key)
        if mine is not None and mine.backend and theirs.epoch == mine.epoch + 1 and theirs.backend:
            theirs = replace(theirs, epoch=mine.epoch)
        return stored(self, key, theirs, now)

    put(Replica, "merge", same_epoch)


# The table --------------------------------------------------------------------------------


@mutation
def later_stamps_win(put: Patch) -> None:
    """Of two pins of one epoch and rank the later one stays."""

    def order(pin: Any) -> Any:
        return (pin.epoch, pin.rank, pin.stamp_ms, pin.claimer, pin.backend, pin.pool, pin.by)

    put(merge, "order", order)
    put(backup, "order", order)


@mutation
def whoever_comes_last_wins(put: Patch) -> None:
    """A delivery replaces what there is."""
    put(replica, "merge", lambda mine, theirs: theirs)


@mutation
def provisional_beats_agreed(put: Patch) -> None:
    """The less firmly a pin was made, the better."""

    def order(pin: Any) -> Any:
        return (pin.epoch, -pin.rank, -pin.stamp_ms, pin.claimer, pin.backend, pin.pool, pin.by)

    put(merge, "order", order)
    put(backup, "order", order)


@mutation
def forgets_tombstones(put: Patch) -> None:
    """An unpinned key leaves nothing behind that outlives a moment."""
    stone = replica.tombstone

    def brief(pin: Any, *, stamp_ms: int, by: Any, now: float) -> Any:
        made = stone(pin, stamp_ms=stamp_ms, by=by, now=now)
        return replace(made, expires_at=now, ends_at=math.inf)

    put(replica, "tombstone", brief)


@mutation
def expired_pins_live_on(put: Patch) -> None:
    """Nobody looks whether a pin has expired."""

    def look_up(self: Replica, key: Any, now: float) -> Any:
        pin = self.stored(key)
        return None if pin is None or not pin.backend else replace(pin, expires_at=now + 60.0)

    put(Replica, "look_up", look_up)


# Replication ------------------------------------------------------------------------------


@mutation
def acknowledges_before_commit(put: Patch) -> None:
    """What was decided leaves the node before it is on its disk."""

    def emit(self: Turns, now: float) -> None:
        effects, self._effects = self._effects, []
        for effect in effects:
            if isinstance(effect, Stored):
                self.replication.append(effect.key, effect.pin)
            elif isinstance(effect, ClaimDone):
                self._on_done(effect)
        fed = self.replication.flush(self._streams.peers(), table_now=now)
        for effect in effects:
            if isinstance(effect, Send):
                self._streams.send(effect.peer, effect.message)
        self._streams.flush()
        for peer in fed:
            self._effects += self.claims.receive(claims.PeerFed(peer), now)
        self._store.commit()

    put(Turns, "_emit", emit)


@mutation
def never_commits(put: Patch) -> None:
    """Nothing reaches the disk."""
    put(Store, "commit", lambda self: None)


@mutation
def takes_deltas_with_gaps(put: Patch) -> None:
    """A delta that does not follow what was read counts as if it did."""
    advance = Intake.advance
    put(Intake, "advance", lambda self, *args: advance(self, *args) or True)


@mutation
def mistakes_another_boots_position(put: Patch) -> None:
    """A log continues where a peer was in the log of an earlier start."""
    opened = ReplicationLog.open

    def trusting(self: ReplicationLog, peer: Any, boot_id: int, seq: int) -> bool:
        return opened(self, peer, self.boot_id if boot_id else 0, min(seq, self.last_seq))

    put(ReplicationLog, "open", trusting)


@mutation
def unlinked_peers_miss_what_is_told(put: Patch) -> None:
    """A log goes on behind its end on a new stream."""
    opened = ReplicationLog.open

    def at_the_end(self: ReplicationLog, peer: Any, boot_id: int, seq: int) -> bool:
        return opened(self, peer, self.boot_id, self.last_seq)

    put(ReplicationLog, "open", at_the_end)


@mutation
def marks_before_tables_have_met(put: Patch) -> None:
    """What two members have on their disks who were in sync before they met (a past fault)."""
    opened = Acquaintance.opened

    def trusting(self: Acquaintance, peer: Any, boot_id: Any, *, am_synced: bool) -> None:
        opened(self, peer, boot_id, am_synced=False)

    put(Acquaintance, "opened", trusting)


@mutation
def knows_the_dead_that_return(put: Patch) -> None:
    """A member that was given up counts as one that was here all the time (a past fault)."""
    closed = Acquaintance.closed

    def trusting(self: Acquaintance, peer: Any, boot_id: Any, *, are_synced: bool) -> None:
        closed(self, peer, boot_id, are_synced=True)

    put(Acquaintance, "closed", trusting)
    put(Acquaintance, "given_up", lambda self, peer: None)


@mutation
def asks_and_does_not_wake(put: Patch) -> None:
    """The request for a table waits for something else to be said (a past fault)."""

    def pull(self: Turns, peer: Any, *, is_synced: bool) -> None:
        self.replication.pull(peer, is_synced=is_synced, now=self._now())

    put(Turns, "pull", pull)
    put(Turns, "next_deadline", Turns._claims_due)


# Membership -------------------------------------------------------------------------------


@mutation
def minority_takes_itself_for_a_majority(put: Patch) -> None:
    """Every view is quorate."""
    ownership = View.ownership

    def quorate(self: View) -> Ownership:
        return replace(ownership(self), quorate=True)

    put(View, "ownership", quorate)


@mutation
def starts_as_a_cluster_of_its_own(put: Patch) -> None:
    """A node that has met nobody yet is a majority of itself (a past fault)."""
    put(View, "expect", lambda self, seeds: None)


@mutation
def believes_in_others_when_alone(put: Patch) -> None:
    """Who hears nobody goes by what it took the others for (a past fault)."""
    put(Isolation, "next_deadline", lambda self: math.inf)


@mutation
def takes_a_link_for_a_member(put: Patch) -> None:
    """An address counts as met before the member there counts as alive (a past fault)."""
    opened = Agent.link_opened

    def hasty(self: Agent, link: Any) -> None:
        if link.dialled is not None:
            self._membership.seed_met(link.dialled)
        opened(self, link)

    put(Agent, "link_opened", hasty)


@mutation
def never_refutes(put: Patch) -> None:
    """Who hears that it is suspected says nothing."""
    put(Membership, "_hear_of_myself", lambda *_: None)


@mutation
def others_raise_incarnations(put: Patch) -> None:
    """Who suspects a member raises its incarnation, so that the accusation counts."""
    accuse = Membership._accuse

    def loud(self: Membership, name: Any, state: Any, now: float) -> None:
        known = self._view.get(name)
        if known is not None:
            self._view.apply(replace(known.update(), incarnation=known.incarnation + 1), now)
        accuse(self, name, state, now)

    put(Membership, "_accuse", loud)


@mutation
def suspects_for_ever(put: Patch) -> None:
    """A suspicion never runs out."""
    put(Suspicions, "take_expired", lambda self, now: ([], []))
    put(Suspicions, "next_deadline", lambda self: math.inf)


@mutation
def gives_up_contacting(put: Patch) -> None:
    """Seeds and dead members are dialled twice and then no more."""
    put(
        Contacts,
        "next_deadline",
        lambda self: min(
            (a.due_at for a in self._attempts.values() if a.wait_s <= 2.0), default=math.inf
        ),
    )
    due = Contacts.take_due

    def twice(self: Contacts, now: float) -> Any:
        few = {a for a, attempt in self._attempts.items() if attempt.wait_s <= 2.0}
        return [address for address in due(self, now) if address in few]

    put(Contacts, "take_due", twice)


@mutation
def takes_replayed_datagrams(put: Patch) -> None:
    """A datagram counts each time it arrives."""
    put(ReplayWindow, "is_fresh", lambda self, counter: True)


@mutation
def trusts_recordings_of_the_present_start(put: Patch) -> None:
    """Who is introduced need not prove that it seals now (a past fault)."""
    introduce = SimPort.introduce

    def trusting(self: SimPort, name: Any, boot_id: Any) -> None:
        introduce(self, name, boot_id)
        if self._windows[name, boot_id] is None:
            self.prove((name, boot_id), 0)

    put(SimPort, "introduce", trusting)
