"""The claim machine and replication, turn by turn: events in, one commit, effects out.

Owns the order in which a turn does things, which is what the agreement rests on: all that
happened since the last turn is committed to the store at once before any effect of it leaves the
process, so what a peer or a client was told survives a kill; and the replication log goes out
before the messages, so that a mark never overtakes the pins that were confirmed before it.

What comes in is taken in at once and acted on with the next turn. So the more comes, the more one
commit and one frame to each peer carry, and a busy node spends less on each claim than an idle one.

Nothing here waits or reads a clock of its own: `PinAgent` takes the turns in a node, the
simulator takes them in virtual time. Must not know membership, sockets or the proxy.

Spec: protocol/spec/pins.md, protocol/spec/replication.md.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from typing import Final, cast, get_args

from meshlb.cluster.catching_up import CatchingUp
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.heals import Heals
from meshlb.cluster.history import History
from meshlb.cluster.repair import Page, Repair, RepairWord
from meshlb.cluster.replication import Replication
from meshlb.cluster.serving import PullServer
from meshlb.cluster.surroundings import BulkStore, Streams, TableStore
from meshlb.core.sticky.claims import ClaimMachine
from meshlb.core.sticky.digest import DigestedStore
from meshlb.core.sticky.events import (
    ClaimDone,
    Effect,
    Event,
    PeerConnected,
    PeerFed,
    PeerLost,
    PeerMessages,
    PeerWord,
    Send,
    Stored,
)
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.merge import prolonged, same_pin, with_lifetime
from meshlb.core.sticky.pin import Pin
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import (
    BucketHashes,
    BucketKeys,
    BucketPins,
    BucketsDiffering,
    Claim,
    ClaimAnswer,
    Delta,
    DeltaAck,
    Digest,
    PullChunk,
    PullRequest,
    Rank,
    Replicate,
    ReplicateAnswer,
    ViewMark,
)
from meshlb.wire.runs import TableRun

LATE_S: Final = 0.02
"""A loop that wakes later than this was kept from reading what peers have said meanwhile."""

GRACE_S_MAX: Final = 1.0
"""The longest time-outs are put off after that."""

PinWord = PeerWord | DeltaAck | PullRequest | TableRun | RepairWord
"""The messages about pins."""

PIN_WORDS: Final[frozenset[type]] = frozenset(get_args(PinWord))

CLAIM_WORDS: Final[frozenset[type]] = frozenset({Claim, ClaimAnswer, Replicate, ReplicateAnswer})
"""Those that are for the claim machine alone, which takes in a run of them at a time."""


class Turns:
    """One per node. `receive` and its like collect; `take` acts.

    Attributes:
        claims: the claim machine.
        replication: the log, and the pulls.
        repair: what mends the rest.
        heals, history: what moved as partitions ended, what happened to each key, for people.
        catching_up, serving: how tables of others get here, and this node's to those that pull it.
        buckets: the sums of the table; told by whoever drops records of it.
    """

    def __init__(
        self,
        *,
        name: NodeName,
        log: ReplicationLog,
        store: TableStore,
        streams: Streams,
        counters: MeshCounters,
        now: Callable[[], float],
        on_work: Callable[[], None],
        on_done: Callable[[ClaimDone], None],
        bulk: BulkStore | None = None,
    ) -> None:
        """Wire.

        Args:
            name: this node.
            log: what it tells all others; empty.
            store: where its pins are, perhaps some already.
            streams: to its peers.
            counters: added to.
            now: reads table time, in seconds.
            on_work: called when a turn is due soon.
            on_done: told how a claim has ended, once that is committed.
            bulk: `store` once more, where its table can be read and replaced in bulk.
        """
        self._digested = DigestedStore(store, None if bulk is None else bulk.buckets)
        self.buckets = self._digested.buckets
        self.claims = ClaimMachine(name, self._digested)
        self.history = History()
        stamps = self.claims.stamps
        self.replication = Replication(log, store, streams, counters, stamps=stamps, bulk=bulk)
        self.replication.on_stale = self._drop_stale
        self.replication.on_replaced = self._merge_replaced
        self.serving = PullServer(store, streams, counters, stamps=stamps, bulk=bulk)
        self.repair = Repair(
            me=name,
            store=self._digested,
            reader=store,
            carrier=streams,
            replication=self.replication,
            counters=counters,
            on_counted=self._recall,
        )
        self.repair.on_compared = self._compared
        self.heals = Heals()
        self.on_pulled: Callable[[], None] = lambda: None
        """Called when the table of a peer has been taken in otherwise than by a frame."""
        self.catching_up = CatchingUp(store, self.buckets, self.replication, self.repair)
        self._name = name
        self._store = store
        self._streams = streams
        self._now = now
        self._on_work = on_work
        self._on_done = on_done
        self._effects: list[Effect] = []
        self._done: list[ClaimDone] = []
        self._grace_until = -math.inf

    # What happens ------------------------------------------------------------------------

    def receive(self, event: Event) -> None:
        """Tell the claim machine; the effects leave with the next turn, which comes soon."""
        self._receive(event, self._now())
        self._on_work()

    def _receive(self, event: Event, now: float) -> None:
        self._effects += self.claims.receive(event, now)

    def stored(self, key: SessionKey, pin: Pin) -> None:
        """The table was written without a claim: tell all peers with the next turn."""
        self._effects.append(Stored(key, pin))
        self._on_work()

    def unsettled(self, key: SessionKey) -> None:
        """There is a provisional pin of `key`, perhaps since an earlier start or in a copy."""
        self.claims.unsettle(key, self._now())
        self._on_work()

    def prolong(self, key: SessionKey, stone: Pin) -> bool:
        """A member is away that may hold what `stone` buries: keep it; False where it is too old.

        All peers are told, so it is also in this node's log for those that return.
        """
        longer = prolonged(stone, now=self._now())
        if longer is not None:
            self._digested.put(key, longer)
            self.stored(key, longer)
        return longer is not None

    def returned(self, member: NodeName) -> None:
        """`member` was taken for dead, and has lived all the time."""
        self.heals.returned(member, self._now())

    def compare_soon(self, peer: NodeName) -> None:
        """New pins wait until the tables of `peer` and of this node have met."""
        self.repair.hasten(peer, self._now())
        self._on_work()

    def wake(self) -> None:
        """There may be something to send."""
        self._on_work()

    def opened(self, peer: NodeName, boot_id: BootId, *, is_apart: bool = False) -> None:
        """There is a new stream to `peer`, started as `boot_id`; `is_apart`: see the event."""
        self._forget_words_to(peer)
        self.receive(PeerConnected(peer, boot_id, is_apart))
        self.replication.opened(peer)
        self.serving.closed(peer)
        self.repair.opened(peer, self._now())

    def closed(self, peer: NodeName) -> None:
        """There is no stream to `peer` any more."""
        self._forget_words_to(peer)
        self.receive(PeerLost(peer))
        self.replication.closed(peer)
        self.serving.closed(peer)
        self.repair.closed(peer)

    def _forget_words_to(self, peer: NodeName) -> None:
        """What was to go out on a stream is lost with it: a mark would come before its pins."""
        self._effects = [
            effect
            for effect in self._effects
            if not (isinstance(effect, Send) and effect.peer == peer)
        ]

    def leave(self) -> None:
        """This node is about to leave: its peers shall have all that it knows before."""
        self._effects += self.claims.leave(self._now())
        self._on_work()

    def has_untold(self) -> bool:
        """True where one of the peers has not acknowledged all that this node has to tell."""
        return bool(self._effects) or self.replication.has_unread(self._streams.peers())

    def pull(self, peer: NodeName, *, is_synced: bool) -> None:
        """Get the table of `peer`, in whatever way suits, unless that is under way."""
        self.catching_up.begin(peer, is_synced=is_synced, now=self._now())
        self._on_work()

    def hear(self, peer: NodeName, messages: Iterable[PinWord]) -> None:
        """A frame of the present stream of `peer`; what follows leaves with the next turn."""
        now = self._now()
        for is_of_claims, words in groupby(messages, lambda word: type(word) in CLAIM_WORDS):
            if is_of_claims:
                self._tell(peer, *cast("Iterable[PeerWord]", words), now=now)
            else:
                for word in words:
                    self._hear(peer, word, now)
        self._on_work()

    def _tell(self, peer: NodeName, *words: PeerWord, now: float) -> None:
        self._receive(PeerMessages(peer, words), now)

    def _hear(self, peer: NodeName, message: PinWord, now: float) -> None:
        match message:
            case Delta():
                self._note(peer, message, now)
                self._merge(peer, message, now)
                self.replication.merged(peer, message)
            case DeltaAck():
                self.replication.acked(peer, message)
            case PullRequest():
                self.serving.asked(peer, message)
            case PullChunk():
                self._merge(peer, message, now)
                self._release(self.replication.chunk_merged(peer, message, now), now)
            case TableRun():
                self.replication.run_arrived(peer, message, now)
            case BucketPins():
                living = tuple(record for record in message.pins if record.expires_in_ms)
                self._merge(peer, replace(message, pins=living), now)
                self.replication.heard(peer, now)
                self.repair.hear(peer, message, now)
            case BucketsDiffering():
                self.replication.heard(peer, now)
                self.repair.hear(peer, message, now)
            case Digest() | BucketHashes() | BucketKeys():
                self.repair.hear(peer, message, now)
            case ViewMark() if self.replication.hold_back(peer, message):
                self.claims.void_mark(peer)  # the latest one comes back with the end of a pull
            case _:
                self._tell(peer, message, now=now)

    def _merge(self, peer: NodeName, message: Delta | PullChunk | BucketPins, now: float) -> None:
        get = self._digested.get
        known = self.heals.before(message.pins, get, now)
        self._tell(peer, message, now=now)
        self.heals.after(known, get)

    def _release(self, marks: Iterable[tuple[NodeName, ViewMark]], now: float) -> None:
        for name, mark in marks:
            self._tell(name, mark, now=now)

    def _compared(self, peer: NodeName) -> None:
        self._release(self.replication.compared(peer), self._now())

    def _merge_replaced(self, key: SessionKey, pin: Pin) -> bool:
        """What the table before held, after a copy has taken its place; True where that wins."""
        known = self._digested.get(key)
        has_changed = self.claims.replica.merge(key, pin, self._now())
        return has_changed is not None and (known is None or not same_pin(known, pin))

    def _drop_stale(self, key: SessionKey, pin: Pin) -> None:
        """Nobody follows it from now on, and the sweep removes it."""
        self._digested.put(key, with_lifetime(pin, expires_at=0.0, ends_at=pin.ends_at))

    def _recall(self, page: Page) -> None:
        """What nobody has agreed on yet may be known to nobody as such since the start."""
        for key, pin in page:
            if pin.rank is Rank.PROVISIONAL and pin.backend:
                self.claims.unsettle(key, self._now())

    def _note(self, teller: NodeName, delta: Delta, now: float) -> None:
        for record in delta.pins:
            self.history.note(record.key, record, teller=teller, now=now)

    # Turns -------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When a turn is due without anything happening, in table time; infinity for never."""
        if self.replication.is_replaying:
            return self._now()
        return min(
            self._claims_due(),
            self.replication.next_deadline(),
            self.repair.next_deadline(),
            self.heals.next_deadline(),
        )

    def _claims_due(self) -> float:
        due = self.claims.next_deadline()
        return math.inf if due is None else max(due, self._grace_until)

    def allow_for_lag(self, deadline: float) -> None:
        """The turn of `deadline` comes now. Nobody was silent while this node could not listen.

        After a late wake-up it reads first what has come meanwhile, and judges later.
        """
        now = self._now()
        late_s = now - deadline
        if late_s > LATE_S:
            self._grace_until = now + min(late_s, GRACE_S_MAX)

    def take(self) -> None:
        """Take a turn."""
        now = self._now()
        if self._claims_due() <= now:
            self._effects += self.claims.handle_timer(now)
        self.replication.give_up_stalled(now)
        was_replaying = self.replication.is_replaying
        if was_replaying:
            self._release(self.replication.replay(now), now)
        self._emit(now)
        while self._effects:
            self._emit(now)
        self.heals.handle_timer(now)
        if self.repair.next_deadline() <= now:
            self.repair.handle_timer(now)
        if self.serving.serve(table_now=now) or self.replication.is_replaying:
            self._on_work()
        self._streams.flush()
        # Peers before clients: they should know the pin by the time that its client has an answer.
        done, self._done = self._done, []
        for claim in done:
            self._on_done(claim)
        if was_replaying and not self.replication.is_replaying:
            self.on_pulled()

    def _emit(self, now: float) -> None:
        """Commit, then let out; what that leads to is left for another round."""
        effects, self._effects = self._effects, []
        self._store.commit()
        sends: list[Send] = []
        for effect in effects:
            match effect:
                case Send():
                    sends.append(effect)
                case Stored(key, pin):
                    self.history.note(key, pin, teller=self._name, now=now)
                    self.replication.append(key, pin)
                case ClaimDone():
                    self._done.append(effect)
        # The log first: a mark must not overtake the pins that were confirmed before it.
        fed = self.replication.flush(
            self._streams.peers(),
            table_now=now,
            addressed=dict.fromkeys(send.peer for send in sends),
        )
        for send in sends:
            self._streams.send(send.peer, send.message)
        for peer in fed:
            self._effects += self.claims.receive(PeerFed(peer), now)
