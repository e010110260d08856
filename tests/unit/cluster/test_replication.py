import math
from dataclasses import replace

import pytest

from meshlb.cluster.acks import ACK_S
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.gathering import GATHER_S, PEERS_AT_ONCE_MAX
from meshlb.cluster.replication import PULL_STALL_S, Replication
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin, record_from_pin
from meshlb.core.sticky.stamps import StampClock
from meshlb.model import BackendName, BootId, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.messages import (
    Delta,
    DeltaAck,
    Message,
    PullChunk,
    PullRequest,
    Rank,
    ViewMark,
)

A, B = NodeName("a"), NodeName("b")
OURS, THEIRS = BootId(1), BootId(2)


def key(number: int) -> SessionKey:
    return SessionKey(number.to_bytes(16, "big"))


def pin(backend: str = "s1", *, stamp_ms: int = 1) -> Pin:
    return Pin(
        PoolName("app"),
        BackendName(backend),
        KeySource.HEADER,
        0,
        Rank.QUORATE,
        stamp_ms,
        A,
        1_000.0,
    )


class Rig:
    """Replication with a table in a dict and streams in lists."""

    def __init__(self) -> None:
        self.table: dict[SessionKey, Pin] = {}
        self.sent: list[tuple[NodeName, Message]] = []
        self.full: set[NodeName] = set()
        self.counters = MeshCounters()
        self.replication = Replication(
            ReplicationLog(OURS), self, self, self.counters, stamps=StampClock()
        )

    def get(self, key: SessionKey) -> Pin | None:
        return self.table.get(key)

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        keys = sorted(k for k in self.table if after is None or k > after)
        return [(k, self.table[k]) for k in keys[:limit]]

    def send(self, peer: NodeName, message: Message) -> None:
        self.sent.append((peer, message))

    def takes_more(self, peer: NodeName) -> bool:
        return peer not in self.full

    def said(self, peer: NodeName) -> list[Message]:
        """What went to `peer` since the last time."""
        said = [message for to, message in self.sent if to == peer]
        self.sent = [(to, message) for to, message in self.sent if to != peer]
        return said

    def flush(self, *peers: NodeName) -> list[NodeName]:
        return self.replication.flush(peers, table_now=0.0)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.replication.opened(A)
    assert rig.said(A) == [DeltaAck(BootId(0), 0)]
    return rig


def test_among_many_peers_the_log_goes_out_in_fewer_frames_and_never_behind_a_message() -> None:
    rig, peers = Rig(), [NodeName(f"p{number}") for number in range(PEERS_AT_ONCE_MAX + 1)]
    first, second, *_ = peers
    for peer in peers:
        rig.replication.opened(peer)
        rig.replication.acked(peer, DeltaAck(BootId(0), 0))
    rig.replication.flush(peers, table_now=0.0)
    rig.sent.clear()

    for number in range(3):
        rig.replication.append(key(number), pin())
        rig.replication.flush(peers, table_now=10.0 + number * GATHER_S / 10, addressed=(first,))
    assert [type(message) for message in rig.said(first)] == [Delta, Delta, Delta]
    assert [type(message) for message in rig.said(second)] == [Delta]

    assert rig.replication.next_deadline() == 10.0 + GATHER_S
    rig.replication.flush(peers, table_now=10.0 + GATHER_S)
    assert rig.said(first) == []
    (delta,) = rig.said(second)
    assert isinstance(delta, Delta)
    assert [record.key for record in delta.pins] == [key(1), key(2)]
    assert rig.replication.next_deadline() == math.inf


def test_a_new_stream_among_many_is_fed_at_once() -> None:
    rig, peers = Rig(), [NodeName(f"p{number}") for number in range(PEERS_AT_ONCE_MAX + 1)]
    late = peers[-1]
    rig.replication.append(key(1), pin())
    rig.replication.flush(peers, table_now=10.0)
    rig.replication.opened(late)
    rig.replication.acked(late, DeltaAck(BootId(0), 0))
    assert rig.replication.flush(peers, table_now=10.0) == [late]
    assert [type(message) for message in rig.said(late)] == [DeltaAck, Delta]


def test_nothing_is_sent_before_the_peer_has_said_where_it_is(rig: Rig) -> None:
    rig.replication.append(key(1), pin())
    assert rig.flush(A) == []
    assert rig.said(A) == []
    rig.replication.acked(A, DeltaAck(BootId(0), 0))
    assert rig.flush(A) == [A]
    (delta,) = rig.said(A)
    assert isinstance(delta, Delta)
    assert [record.key for record in delta.pins] == [key(1)]


def test_a_new_stream_goes_on_where_the_peer_is(rig: Rig) -> None:
    for number in range(3):
        rig.replication.append(key(number), pin())
    rig.replication.acked(A, DeltaAck(OURS, 2))
    rig.flush(A)
    (delta,) = rig.said(A)
    assert isinstance(delta, Delta)
    assert (delta.after_seq, delta.upto_seq) == (2, 3)


def test_deltas_are_acknowledged_together_and_the_position_outlives_the_stream(rig: Rig) -> None:
    rig.replication.merged(A, Delta(THEIRS, 0, 5, ()))
    rig.replication.flush([A], table_now=0.0)
    rig.replication.merged(A, Delta(THEIRS, 5, 9, ()))
    assert rig.said(A) == []
    assert rig.replication.next_deadline() == ACK_S
    rig.replication.flush([A], table_now=ACK_S)
    assert rig.said(A) == [DeltaAck(THEIRS, 9)]
    rig.replication.closed(A)
    rig.replication.opened(A)
    assert rig.said(A) == [DeltaAck(THEIRS, 9)]


def test_a_mark_behind_a_gap_waits_for_the_pull_that_fills_it(rig: Rig) -> None:
    assert not rig.replication.hold_back(A, ViewMark(1))
    rig.replication.merged(A, Delta(THEIRS, 7, 9, ()))
    assert rig.replication.gaps == {A}
    assert rig.replication.hold_back(A, ViewMark(2))
    rig.replication.pull(A, is_synced=False, now=0.0)
    assert PullRequest(1) in rig.said(A)
    assert rig.replication.chunk_merged(A, PullChunk(1, (), False), 0.0) == []
    assert rig.replication.chunk_merged(A, PullChunk(1, (), True), 0.0) == [(A, ViewMark(2))]
    assert rig.replication.gaps == frozenset()
    assert not rig.replication.hold_back(A, ViewMark(3))


def test_the_table_of_a_peer_in_sync_fills_the_gaps_of_others(rig: Rig) -> None:
    rig.replication.merged(A, Delta(THEIRS, 7, 9, ()))
    rig.replication.opened(B)
    rig.replication.pull(B, is_synced=False, now=0.0)
    rig.replication.chunk_merged(B, PullChunk(1, (), True), 0.0)
    assert rig.replication.gaps == {A}
    assert not rig.replication.has_pulled_synced
    rig.replication.pull(B, is_synced=True, now=0.0)
    rig.replication.chunk_merged(B, PullChunk(2, (), True), 0.0)
    assert rig.replication.gaps == frozenset()
    assert rig.replication.has_pulled_synced


def test_a_gap_that_opens_during_a_pull_is_not_filled_by_it(rig: Rig) -> None:
    rig.replication.opened(B)
    rig.replication.pull(B, is_synced=True, now=0.0)
    rig.replication.merged(A, Delta(THEIRS, 7, 9, ()))
    rig.replication.chunk_merged(B, PullChunk(1, (), True), 0.0)
    assert rig.replication.gaps == {A}


def test_a_second_gap_that_opens_during_a_pull_is_not_filled_by_it(rig: Rig) -> None:
    """What is missing may be behind what was pulled: the mark behind it must wait."""
    rig.replication.merged(A, Delta(THEIRS, 7, 9, ()))
    rig.replication.pull(A, is_synced=True, now=0.0)
    rig.replication.merged(A, Delta(THEIRS, 12, 14, ()))
    rig.replication.chunk_merged(A, PullChunk(1, (), True), 0.0)
    assert rig.replication.gaps == {A}


def test_a_comparison_is_as_good_as_a_pull_and_stalls_like_one(rig: Rig) -> None:
    rig.replication.merged(A, Delta(THEIRS, 7, 9, ()))
    assert rig.replication.hold_back(A, ViewMark(2))
    rig.replication.compare(A, is_synced=True, now=0.0)
    assert rig.replication.pulling_from == A
    rig.replication.give_up_stalled(PULL_STALL_S + 0.1)
    assert rig.replication.pulling_from is None
    assert not rig.replication.may_compare(A)
    rig.replication.compare(A, is_synced=True, now=10.0)
    rig.replication.heard(A, 14.0)
    rig.replication.give_up_stalled(14.0 + PULL_STALL_S)
    assert rig.replication.compared(B) == []
    assert rig.replication.compared(A) == [(A, ViewMark(2))]
    assert rig.replication.has_pulled_synced
    assert rig.replication.gaps == frozenset()


def test_a_pull_ends_with_its_stream_or_when_it_stalls(rig: Rig) -> None:
    rig.replication.pull(A, is_synced=True, now=0.0)
    rig.replication.closed(A)
    assert rig.replication.pulling_from is None
    rig.replication.opened(A)
    rig.replication.pull(A, is_synced=True, now=0.0)
    rig.replication.chunk_merged(A, PullChunk(2, (), False), 4.0)
    rig.replication.give_up_stalled(4.0 + PULL_STALL_S)
    assert rig.replication.pulling_from == A
    rig.replication.give_up_stalled(4.1 + PULL_STALL_S)
    assert rig.replication.pulling_from is None
    assert rig.replication.chunk_merged(A, PullChunk(2, (), True), 10.0) == []
    assert not rig.replication.has_pulled_synced


def test_what_a_pulled_table_lacks_is_told(rig: Rig) -> None:
    """Pins from this node's disk that nobody else remembers."""
    rig.replication.acked(A, DeltaAck(BootId(0), 0))
    rig.table = {key(n): pin() for n in range(6)}
    rig.table[key(2)] = pin("newer", stamp_ms=0)
    theirs = [record_from_pin(key(n), pin(), now=0.0) for n in (1, 2, 3)]
    theirs[0] = replace(theirs[0], expires_in_ms=1)
    rig.replication.pull(A, is_synced=True, now=0.0)
    rig.said(A)
    rig.replication.chunk_merged(A, PullChunk(1, tuple(theirs[:2]), False), 0.0)
    rig.replication.chunk_merged(A, PullChunk(1, tuple(theirs[2:]), False), 0.0)
    rig.replication.chunk_merged(A, PullChunk(1, (), True), 0.0)
    rig.flush(A)
    told = [record.key for m in rig.said(A) if isinstance(m, Delta) for record in m.pins]
    assert told == [key(0), key(2), key(4), key(5)]


def test_what_is_over_is_not_told_and_what_was_agreed_meanwhile_is(rig: Rig) -> None:
    """Nobody takes what is over, so it would be told anew with each pull, for ever."""
    rig.replication.acked(A, DeltaAck(BootId(0), 0))
    rig.table = {key(1): pin(), key(2): replace(pin(), expires_at=5_000.0)}
    provisional = replace(pin(), rank=Rank.PROVISIONAL, expires_at=5_000.0)
    rig.replication.pull(A, is_synced=True, now=2_000.0)
    rig.said(A)
    chunk = PullChunk(1, (record_from_pin(key(2), provisional, now=2_000.0),), False)
    rig.replication.chunk_merged(A, chunk, 2_000.0)
    rig.flush(A)
    told = [record.key for m in rig.said(A) if isinstance(m, Delta) for record in m.pins]
    assert told == [key(2)]


def test_who_was_away_for_longer_than_tombstones_are_kept_drops_what_others_have_deleted(
    rig: Rig,
) -> None:
    rig.replication.acked(A, DeltaAck(BootId(0), 0))
    stale: list[SessionKey] = []
    rig.replication.on_stale = lambda key, pin: stale.append(key)
    rig.replication.away_since_ms = 100
    rig.table = {key(1): pin(stamp_ms=50), key(2): pin(stamp_ms=50), key(3): pin(stamp_ms=200)}
    theirs = (record_from_pin(key(2), pin(stamp_ms=50), now=0.0),)
    rig.replication.pull(A, is_synced=True, now=0.0)
    rig.said(A)
    rig.replication.chunk_merged(A, PullChunk(1, theirs, False), 0.0)
    rig.replication.chunk_merged(A, PullChunk(1, (), True), 0.0)
    assert stale == [key(1)]
    rig.flush(A)
    told = [record.key for m in rig.said(A) if isinstance(m, Delta) for record in m.pins]
    assert told == [key(3)], "what it made since is news"
    assert rig.replication.away_since_ms is None


def test_where_nobody_is_in_sync_nothing_is_dropped(rig: Rig) -> None:
    rig.replication.acked(A, DeltaAck(BootId(0), 0))
    rig.replication.away_since_ms = 100
    rig.table = {key(1): pin(stamp_ms=50)}
    rig.replication.pull(A, is_synced=False, now=0.0)
    rig.said(A)
    rig.replication.chunk_merged(A, PullChunk(1, (), True), 0.0)
    rig.flush(A)
    (delta,) = rig.said(A)
    assert isinstance(delta, Delta)
    assert [record.key for record in delta.pins] == [key(1)]
    assert rig.replication.away_since_ms == 100
