"""The claim machine: claimer, home and backup of one node behind one interface.

Owns the order in which the roles hear of an event, the marks of views, and the merge of what
peers tell. It performs no I/O: `receive` and `handle_timer` return effects, see `events` for the
two promises that their carrier gives. Must not know how pins are stored or bytes travel.

A message of this node to itself never leaves the machine, so that a node claims at itself the way
it claims at others. `now` is table time, in seconds (see `pin`), throughout.

Spec: protocol/spec/pins.md, "Claims".
"""

from collections.abc import Iterable

from meshlb.core.sticky.backup import Backup
from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.claimer import Claimer
from meshlb.core.sticky.events import (
    ClaimStarted,
    Effect,
    Event,
    PeerConnected,
    PeerFed,
    PeerLost,
    PeerMessages,
    PeerWord,
    Send,
    Stored,
    SuspectsChanged,
    TablesMet,
    ViewChanged,
)
from meshlb.core.sticky.fallback import Fallback
from meshlb.core.sticky.home import Home
from meshlb.core.sticky.homes import Homes
from meshlb.core.sticky.merge import same_pin
from meshlb.core.sticky.proposals import is_claimable
from meshlb.core.sticky.replica import PinStore, Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Life, Standing
from meshlb.core.sticky.tried import Tried
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import (
    BucketPins,
    Claim,
    ClaimAnswer,
    Delta,
    PinRecord,
    PullChunk,
    Rank,
    Replicate,
    ReplicateAnswer,
    ViewMark,
)


class ClaimMachine:
    """One node's part in the agreement on pins.

    Attributes:
        replica: this node's table; look-ups, plants, touches and unpins go there directly.
        counters: what has happened, for the metrics.
        stamps: the clock that orders pins.
    """

    def __init__(self, name: NodeName, store: PinStore) -> None:
        """`name`: this node; `store`: where its pins are, perhaps some already."""
        self.stamps = stamps = StampClock()
        self.counters = ClaimCounters()
        self._standing = standing = Standing(name, Barrier(name))
        self.replica = replica = Replica(store, standing, stamps, self.counters)
        fallback = Fallback(standing, replica, stamps, self.counters)
        self._fallback = fallback
        tried = Tried(replica)
        self._claimer = Claimer(standing, replica, fallback, self.counters)
        self._home = Home(standing, replica, fallback, tried, stamps, self.counters)
        self._backup = Backup(standing, replica, tried, self.counters)
        self._fed: set[NodeName] = set()
        self._apart: set[NodeName] = set()
        """Peers that get no mark yet: they may lack what no log of the present tells."""
        self._is_leaving = False
        self._departed: set[NodeName] = set()
        """Peers that left the view, and whose stream is still open."""

    @property
    def barrier_missing(self) -> frozenset[NodeName]:
        """The owners whose mark of the current view is still missing; empty: pins can be made."""
        return self._standing.barrier.missing

    @property
    def claims_waiting(self) -> int:
        """Claims under way: keys claimed by this node, and claims that wait here as home."""
        return len(self._claimer) + len(self._home)

    def unsettle(self, key: SessionKey, now: float) -> None:
        """The table holds a provisional pin of `key` from before the start: have it agreed on."""
        self._fallback.unsettle(key, now)

    def void_mark(self, peer: NodeName) -> None:
        """`peer` has marked a view, but what it has told before that mark is not all here."""
        self._standing.barrier.void(peer)

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take in one event."""
        out: list[Effect] = []
        if isinstance(event, PeerMessages):
            for message in event.messages:
                self._hear(event.sender, message, now, out)
        elif isinstance(event, ClaimStarted):
            self._claimer.start(event.token, event.proposal, now, out)
        elif isinstance(event, ViewChanged):
            self._enter(event, now, out)
        elif isinstance(event, SuspectsChanged):
            self._standing.suspects = event.suspects
            self._claimer.doubt(event.suspects, now)
        else:
            self._note_stream(event, now, out)
        return self._delivered(out, now)

    def next_deadline(self) -> float | None:
        """When `handle_timer` has something to do, in table time; None: never as things are."""
        deadlines = (
            self._claimer.next_deadline(),
            self._home.next_deadline(),
            self._backup.next_deadline(),
            self._fallback.next_deadline(),
        )
        return min((at for at in deadlines if at is not None), default=None)

    def handle_timer(self, now: float) -> list[Effect]:
        """Do what is due."""
        out: list[Effect] = []
        self._home.handle_timer(now, out)
        self._backup.handle_timer(now, out)
        self._claimer.handle_timer(now, out)
        return self._delivered(out, now)

    def _delivered(self, out: list[Effect], now: float) -> list[Effect]:
        """The effects for others, after the messages to this node itself have been heard."""
        name = self._standing.name
        effects: list[Effect] = []
        for effect in out:  # grows while we walk
            if isinstance(effect, Send) and effect.peer == name:
                self._hear(name, effect.message, now, out)
            else:
                effects.append(effect)
        return effects

    def _hear(self, sender: NodeName, message: PeerWord, now: float, out: list[Effect]) -> None:
        if isinstance(message, Claim):
            if not is_claimable(message):
                self.counters.refused += 1
                return
            if message.hedged:
                self._backup.hedged(message.key, now, out)
            self._home.claimed(sender, message, now, out)
        elif isinstance(message, ClaimAnswer):
            if message.pin is not None:
                self._backup.answered(sender, message.pin, now)
            self._claimer.answered(message, now, out)
        elif isinstance(message, Replicate):
            self._backup.asked(sender, message, now, out)
        elif isinstance(message, ReplicateAnswer):
            self._home.replicated(sender, message, now, out)
        elif isinstance(message, Delta):
            for record in message.pins:
                self._backup.told(sender, record, now)
            is_late = self._is_leaving or sender in self._departed
            self._merge(message.pins, now, out, is_late=is_late)
        elif isinstance(message, PullChunk | BucketPins):
            self._merge(message.pins, now, out)
        else:
            self._mark(sender, message, now, out)

    def _merge(
        self,
        records: Iterable[PinRecord],
        now: float,
        out: list[Effect],
        *,
        is_late: bool = False,
    ) -> None:
        for record in records:
            if not record.expires_in_ms:
                continue  # over where it comes from, so it must not begin to linger here
            if record.rank is Rank.PROVISIONAL and record.backend:
                self._fallback.unsettle(record.key, now)
            known = self.replica.stored(record.key) if is_late else None
            merged = self.replica.merge_record(record, now)
            if merged is None:
                continue
            # A new pin whose teller has left the view, for others may never hear of it; but not a
            # new lifetime, which changes a little with each delivery and so would go round.
            if is_late and (known is None or not same_pin(known, merged)):
                out.append(Stored(record.key, merged))
            self._claimer.learned(record.key, now, out)
            self._home.learned(record.key, now, out)

    # Views and streams -------------------------------------------------------------------

    def leave(self, now: float) -> list[Effect]:
        """This node is about to leave: tell everybody what others may not have heard.

        From now on it holds and makes nothing, and repeats all news. It may say that it leaves
        once its peers have all that; before, its place in their views stands for what it knows.
        """
        out: list[Effect] = []
        self._is_leaving = True
        standing = self._standing
        standing.homes = Homes(self._owning(standing.homes.owners))
        self._backup.leave(now, out)
        self._home.view_changed(now, out)
        self._claimer.view_changed(now, out)
        return self._delivered(out, now)

    def _enter(self, view: ViewChanged, now: float, out: list[Effect]) -> None:
        standing = self._standing
        if view.quorate and not standing.quorate:
            self.replica.end_overrides()
        self._departed |= self._fed & standing.homes.owners
        self._departed.difference_update(view.owners)
        standing.homes = Homes(self._owning(view.owners))
        standing.view_id = view.view_id
        standing.quorate = view.quorate
        standing.barrier.enter(view.view_id, standing.homes.owners)
        self._backup.view_changed(now, out)
        for peer in sorted(self._fed):
            self._send_mark(peer, out)
        self._home.view_changed(now, out)
        self._claimer.view_changed(now, out)

    def _owning(self, owners: Iterable[NodeName]) -> Iterable[NodeName]:
        """Who holds slots, as this node takes it: itself no more once it is about to leave."""
        return [owner for owner in owners if owner != self._standing.name or not self._is_leaving]

    def _send_mark(self, peer: NodeName, out: list[Effect]) -> None:
        if peer in self._fed and peer not in self._apart:
            out.append(Send(peer, ViewMark(self._standing.view_id)))

    def _mark(self, sender: NodeName, mark: ViewMark, now: float, out: list[Effect]) -> None:
        barrier = self._standing.barrier
        was_complete = barrier.is_complete
        barrier.mark(sender, mark.view_id)
        if barrier.is_complete and not was_complete:
            self._home.barrier_completed(now, out)

    def _note_stream(
        self, event: PeerConnected | PeerFed | TablesMet | PeerLost, now: float, out: list[Effect]
    ) -> None:
        peer = event.peer
        if isinstance(event, TablesMet):
            if peer in self._apart:
                self._apart.discard(peer)
                self._send_mark(peer, out)
            return
        if isinstance(event, PeerFed):
            self._fed.add(peer)
            self._send_mark(peer, out)
            self._home.peer_fed(peer, now, out)
            self._claimer.peer_fed(peer, now, out)
            return
        self._fed.discard(peer)
        self._apart.discard(peer)
        self._departed.discard(peer)
        if isinstance(event, PeerConnected):
            if event.is_apart:
                self._apart.add(peer)
            self._standing.lives[peer] = Life(peer, event.boot_id)
            self._standing.barrier.void(peer)
        else:
            self._standing.lives.pop(peer, None)
            self._home.peer_lost(peer, now)
            self._claimer.doubt((peer,), now)
