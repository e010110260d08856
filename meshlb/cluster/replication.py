"""Keeps the replicas alike: this node's log to each peer, their logs and tables to this node.

Owns, for each stream, where both logs continue; the pulls of whole tables to this node, in
whatever form they come; and the gaps, that is the peers of whose log entries are missing here.
A mark of a peer with a gap is held back until a pull has filled it: the barrier trusts that all
before the mark is here.

All methods are synchronous and called within a turn of the agent, which commits the store before
`flush` lets anything out. Must not know sockets, nor which pin wins.

Spec: protocol/spec/replication.md.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from meshlb.cluster.acks import Acks
from meshlb.cluster.copying import Receiver
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.gathering import Gathering
from meshlb.cluster.surroundings import BulkStore, Carrier, PinReader
from meshlb.core.sticky.intake import Intake
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.stamps import StampClock
from meshlb.errors import StoreError, WireError
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.limits import PACKED_PIN_BYTES, PINS_PER_MESSAGE_MAX
from meshlb.wire.messages import (
    Delta,
    DeltaAck,
    PullChunk,
    PullRequest,
    ViewMark,
)
from meshlb.wire.runs import TableRun

PULL_STALL_S: Final = 5.0
"""A pull without a chunk for so long is given up, and tried with another peer."""

NOBODY: Final = NodeName("")
"""The peer of a pull that an earlier start has begun."""

_log = structlog.get_logger("meshlb.cluster")


@dataclass(slots=True)
class _Pull:
    """The table that this node is being sent, or compares."""

    peer: NodeName
    request: int
    from_synced: bool
    fills: frozenset[NodeName]
    """The gaps that it will have filled at its end."""
    heard_at: float
    upto: SessionKey | None = None
    """The last key of the chunks so far."""
    copy: Receiver | None = None
    """Set once a run has come."""
    is_comparison: bool = False
    """It is repair's, which compares the tables; no records are on their way otherwise."""
    is_telling: bool = False
    """This node's own table held something when it began: others may lack that."""


class Replication:
    """One per node; all times are table time."""

    def __init__(
        self,
        log: ReplicationLog,
        reader: PinReader,
        carrier: Carrier,
        counters: MeshCounters,
        *,
        stamps: StampClock,
        bulk: BulkStore | None = None,
    ) -> None:
        """Wire; `bulk` is the table once more, where it can be copied in bulk."""
        self._log = log
        self._stamps = stamps
        self._bulk = bulk
        self._intake = Intake()
        self._reader = reader
        self._carrier = carrier
        self._counters = counters
        self._unplaced: set[NodeName] = set()  # peers whose first position is awaited
        self._fed: list[NodeName] = []
        self._acks = Acks()
        self._gathering = Gathering()
        self._flushed_seq = 0
        self._gaps: set[NodeName] = set()
        self._held_marks: dict[NodeName, ViewMark] = {}
        self._pull: _Pull | None = self._left_over()
        self._pulls = 0
        self.pulled_from: set[NodeName] = set()
        """Peers whose whole table was pulled on the present stream."""
        self.has_pulled_synced = False
        """The whole table of a peer that was in sync has been pulled."""
        self.away_since_ms: int | None = None
        """Set for a node that comes back after longer than tombstones are kept: what it holds from
        before, and a member in sync does not, was deleted there and is not told but dropped."""
        self.on_stale: Callable[[SessionKey, Pin], None] = lambda key, pin: None
        """Told of each such record."""
        self.on_replaced: Callable[[SessionKey, Pin], bool] = lambda key, pin: False
        """Merges a record of a table that a copy has replaced; True where it wins."""
        self._plain: set[NodeName] = set()
        """Peers with whom a copy or a comparison came to nothing: they are asked for chunks."""

    def _left_over(self) -> _Pull | None:
        """A copy was in use when the node stopped, and not all was merged that it had replaced."""
        if self._bulk is None or not self._bulk.has_replaced:
            return None
        copy = Receiver(self._bulk, merge=self._merge_replaced)
        return _Pull(NOBODY, 0, False, frozenset(), 0.0, copy=copy, is_telling=True)

    # Streams -----------------------------------------------------------------------------

    def opened(self, peer: NodeName) -> None:
        """A new stream to `peer`: say where its log continues."""
        self.closed(peer)
        self._plain.discard(peer)
        self._unplaced.add(peer)
        self._carrier.send(peer, self._intake.position(peer))

    def closed(self, peer: NodeName) -> None:
        """The stream to `peer` is gone, and with it what was under way on it."""
        self._unplaced.discard(peer)
        self._log.close(peer)
        self._acks.drop(peer)
        self._held_marks.pop(peer, None)
        self.pulled_from.discard(peer)
        if self._pull is not None and self._pull.peer == peer and not self.is_replaying:
            self._give_up()

    # What peers say ----------------------------------------------------------------------

    def acked(self, peer: NodeName, ack: DeltaAck) -> None:
        """A position in our log; the first one on a stream says where it continues."""
        if peer in self._unplaced:
            self._unplaced.discard(peer)
            self._log.open(peer, ack.boot_id, ack.seq)
            self._fed.append(peer)
        else:
            self._log.ack(peer, ack.boot_id, ack.seq)

    def merged(self, peer: NodeName, delta: Delta) -> None:
        """The pins of a delta are in the table; note a gap before them."""
        self._counters.deltas_received += 1
        self._acks.owe(peer)
        if not self._intake.advance(peer, delta):
            self._gaps.add(peer)
            if self._pull is not None:  # what is missing now may be behind what was pulled
                self._pull.fills -= {peer}

    def hold_back(self, peer: NodeName, mark: ViewMark) -> bool:
        """True where `mark` must wait for a gap to be filled; `released` gives it back."""
        if peer not in self._gaps:
            return False
        self._held_marks[peer] = mark
        return True

    def chunk_merged(
        self, peer: NodeName, chunk: PullChunk, now: float
    ) -> list[tuple[NodeName, ViewMark]]:
        """The pins of a chunk are in the table; the marks that waited for the last chunk.

        What this node has in the chunk's range of keys and the peer has not, for example pins
        from its disk that nobody else remembers, goes into the log.
        """
        pull = self._pull
        if pull is None or pull.peer != peer or pull.request != chunk.request:
            return []
        pull.heard_at = now
        upto = chunk.pins[-1].key if chunk.pins else pull.upto
        end = None if chunk.last else upto
        self._tell_what_is_missing(chunk, after=pull.upto, upto=end, now=now)
        pull.upto = upto
        self._counters.pins_pulled += len(chunk.pins)
        return self._pulled(pull) if chunk.last else []

    def _pulled(self, pull: _Pull) -> list[tuple[NodeName, ViewMark]]:
        """All that the peer held is here; the marks that waited for that."""
        self._pull = None
        if pull.from_synced:
            self.away_since_ms = None
        self.pulled_from.add(pull.peer)
        self.has_pulled_synced |= pull.from_synced
        self._gaps -= pull.fills
        return [
            (name, self._held_marks.pop(name))
            for name in sorted(pull.fills)
            if name in self._held_marks
        ]

    def run_arrived(self, peer: NodeName, run: TableRun, now: float) -> None:
        """A part of a copy; with the last one the copy is in use, and `replay` has work."""
        pull = self._pull
        if pull is None or pull.peer != peer or pull.request != run.request or self.is_replaying:
            return
        assert self._bulk is not None
        pull.heard_at = now
        self._stamps.observe(run.stamp_ms, now)
        try:
            if pull.copy is None:
                pull.copy = Receiver(self._bulk, merge=self._merge_replaced)
            pull.copy.take(run, now)
        except (StoreError, WireError) as error:
            _log.warning("a copy of the table came to nothing", peer=peer, reason=str(error))
            self._plain.add(peer)
            self._give_up()
        else:
            self._counters.pins_pulled += len(run.records) // PACKED_PIN_BYTES

    @property
    def is_taking(self) -> bool:
        """A table is on its way here: until it is, nothing can be said of this node's own."""
        return self._pull is not None and not self._pull.is_comparison

    @property
    def is_replaying(self) -> bool:
        """A copy is in use, and `replay` has work."""
        pull = self._pull
        return pull is not None and pull.copy is not None and pull.copy.is_replaying

    def replay(self, now: float) -> list[tuple[NodeName, ViewMark]]:
        """Merge some of what a copy has replaced; the marks that waited for the end of that."""
        pull = self._pull
        assert pull is not None
        assert pull.copy is not None
        pull.heard_at = now
        return self._pulled(pull) if pull.copy.replay(now) else []

    def _merge_replaced(self, key: SessionKey, pin: Pin, now: float) -> None:
        assert self._pull is not None
        is_lacking = self._reader.get(key) is None
        if pin.expires_at <= now or (is_lacking and self._is_stale(pin)):
            return
        if self.on_replaced(key, pin) and self._pull.is_telling:
            self._log.append(key, pin)

    def _tell_what_is_missing(
        self,
        chunk: PullChunk,
        *,
        after: SessionKey | None,
        upto: SessionKey | None,
        now: float,
    ) -> None:
        theirs = {record.key: (record.epoch, record.rank, record.stamp_ms) for record in chunk.pins}
        while page := self._reader.scan(after, PINS_PER_MESSAGE_MAX):
            for key, pin in page:
                if upto is not None and key > upto:
                    return
                if self._is_stale(pin) and key not in theirs:
                    self.on_stale(key, pin)
                elif theirs.get(key) == (pin.epoch, pin.rank, pin.stamp_ms):
                    continue
                elif pin.expires_at > now:  # what is over nobody takes, and so it would not end
                    self._log.append(key, pin)
            after = page[-1][0]

    def _is_stale(self, pin: Pin) -> bool:
        assert self._pull is not None
        is_from_before = self.away_since_ms is not None and pin.stamp_ms <= self.away_since_ms
        return is_from_before and self._pull.from_synced

    # Positions ---------------------------------------------------------------------------

    def positions(self) -> Mapping[NodeName, DeltaAck]:
        """How far the log of each peer is merged here."""
        return self._intake.positions()

    def position(self, peer: NodeName) -> DeltaAck:
        """How far the log of `peer` is merged here."""
        return self._intake.position(peer)

    def log_end(self, peer: NodeName) -> tuple[BootId, int] | None:
        """Up to where this node's log has gone to `peer`; None before it said where it is."""
        seq = self._log.sent_seq(peer)
        return None if seq is None else (self._log.boot_id, seq)

    def filled(self, peer: NodeName, boot_id: BootId, seq: int) -> None:
        """What `peer` has logged up to `seq` is in the table: a comparison has brought it."""
        self._intake.cover(peer, boot_id, seq)
        self._acks.owe(peer)

    # Pulling -----------------------------------------------------------------------------

    @property
    def gaps(self) -> frozenset[NodeName]:
        """The peers of whose log entries are missing here."""
        return frozenset(self._gaps)

    @property
    def pulling_from(self) -> NodeName | None:
        """The peer that is sending its table."""
        return self._pull.peer if self._pull is not None else None

    def pull(self, peer: NodeName, *, is_synced: bool, now: float, may_copy: bool = False) -> None:
        """Ask `peer` for its table; no pull is under way.

        The table of a peer that is in sync fills all gaps known now: what others have told that
        peer since is in what they keep telling us. Another one's fills only its own.

        With `may_copy` a copy of it may take the place of this node's table: nobody follows that
        yet.
        """
        pull = self._begin(peer, is_synced=is_synced, now=now)
        pull.is_telling = bool(self._reader.scan(None, 1))
        is_packed = may_copy and self._bulk is not None and peer not in self._plain
        self._carrier.send(peer, PullRequest(pull.request, is_packed))

    def may_compare(self, peer: NodeName) -> bool:
        """False where a comparison with `peer` has come to nothing."""
        return peer not in self._plain

    def compare(self, peer: NodeName, *, is_synced: bool, now: float) -> None:
        """A comparison with `peer` begins in the place of a pull; `compared` ends it."""
        self._begin(peer, is_synced=is_synced, now=now).is_comparison = True

    def _begin(self, peer: NodeName, *, is_synced: bool, now: float) -> _Pull:
        assert self._pull is None
        self._pulls += 1
        fills = self.gaps if is_synced else frozenset({peer})
        self._pull = _Pull(peer, self._pulls, is_synced, fills, now)
        self._counters.pulls_started += 1
        return self._pull

    def compared(self, peer: NodeName) -> list[tuple[NodeName, ViewMark]]:
        """A comparison with `peer` is done; the marks that waited for that."""
        pull = self._pull
        return [] if pull is None or pull.peer != peer else self._pulled(pull)

    def heard(self, peer: NodeName, now: float) -> None:
        """A word of a comparison with `peer`."""
        if self._pull is not None and self._pull.peer == peer:
            self._pull.heard_at = now

    def give_up_stalled(self, now: float) -> None:
        """End a pull whose peer sends nothing more."""
        pull = self._pull
        if pull is not None and now - pull.heard_at > PULL_STALL_S and not self.is_replaying:
            self._plain.add(pull.peer)
            self._give_up()

    def _give_up(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None and pull.copy is not None:
            pull.copy.abandon()

    def has_unread(self, peers: Iterable[NodeName]) -> bool:
        """True where one of `peers` has not acknowledged all of our log."""
        return any(self._log.unread(peer) for peer in peers)

    # Sending -----------------------------------------------------------------------------

    def append(self, key: SessionKey, pin: Pin) -> None:
        """Tell every peer of `pin`, with the next `flush`."""
        self._log.append(key, pin)

    def flush(
        self, peers: Collection[NodeName], *, table_now: float, addressed: Collection[NodeName] = ()
    ) -> list[NodeName]:
        """Queue what each of `peers` lacks, and acknowledge after a moment what it has told.

        In a large cluster that may wait a little, see `gathering`, but for what must go ahead of
        the messages to those `addressed`.

        Returns:
            Peers that now have, in their stream, all that they lacked when it was opened.
        """
        has_news = self._log.last_seq > self._flushed_seq
        if self._gathering.holds_back(len(peers), table_now, has_news=has_news):
            self._feed((*addressed, *self._fed), table_now)
        else:
            self._feed(peers, table_now)
            self._flushed_seq = self._log.last_seq
        for peer in self._acks.due(table_now):
            self._carrier.send(peer, self._intake.position(peer))
        fed, self._fed = self._fed, []
        return fed

    def _feed(self, peers: Iterable[NodeName], table_now: float) -> None:
        for peer in peers:
            while (delta := self._log.next_delta(peer, table_now)) is not None:
                self._counters.deltas_sent += 1
                self._carrier.send(peer, delta)

    def next_deadline(self) -> float:
        """When to `flush` although nothing happens; infinity for never."""
        return min(self._gathering.next_deadline(), self._acks.next_deadline())
