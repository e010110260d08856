import pytest

from meshlb.core.sticky.log import (
    DELTA_PINS_MAX,
    DELTA_SPAN_MAX,
    SPAN_PER_ENTRY_MAX,
    ReplicationLog,
)
from meshlb.model import BootId, NodeName
from tests.fakes.pins import NOW, TTL_S, a_key, a_pin

BOOT, PEER = BootId(7), NodeName("lb-2")


@pytest.fixture
def log() -> ReplicationLog:
    return ReplicationLog(BOOT)


def fill(log: ReplicationLog, count: int) -> None:
    for number in range(count):
        log.append(a_key(number), a_pin())


def test_an_empty_log_has_nothing_to_tell(log: ReplicationLog) -> None:
    log.open(PEER, 0, 0)
    assert log.next_delta(PEER, NOW) is None


def test_a_peer_is_told_every_entry_once_and_in_order(log: ReplicationLog) -> None:
    fill(log, 3)
    assert log.open(PEER, 0, 0)
    delta = log.next_delta(PEER, NOW)
    assert delta is not None
    assert (delta.boot_id, delta.after_seq, delta.upto_seq) == (BOOT, 0, 3)
    assert [record.key for record in delta.pins] == [a_key(0), a_key(1), a_key(2)]
    assert log.next_delta(PEER, NOW) is None


def test_a_peer_without_a_stream_is_told_nothing(log: ReplicationLog) -> None:
    fill(log, 3)
    assert log.next_delta(PEER, NOW) is None
    log.open(PEER, 0, 0)
    log.close(PEER)
    assert log.next_delta(PEER, NOW) is None


def test_a_delta_is_bounded(log: ReplicationLog) -> None:
    fill(log, DELTA_PINS_MAX + 1)
    log.open(PEER, 0, 0)
    first, second = log.next_delta(PEER, NOW), log.next_delta(PEER, NOW)
    assert first is not None
    assert second is not None
    assert len(first.pins) == DELTA_PINS_MAX
    assert (second.after_seq, len(second.pins)) == (first.upto_seq, 1)


def test_lifetimes_travel_as_what_remains_when_the_delta_is_cut(log: ReplicationLog) -> None:
    fill(log, 1)
    log.open(PEER, 0, 0)
    delta = log.next_delta(PEER, NOW + 100)
    assert delta is not None
    assert delta.pins[0].expires_in_ms == (TTL_S - 100) * 1_000


def test_an_entry_that_is_superseded_travels_once_and_leaves_no_gap(log: ReplicationLog) -> None:
    log.append(a_key(1), a_pin("s1"))
    log.append(a_key(2), a_pin("s1"))
    log.append(a_key(1), a_pin("s2", epoch=1))
    log.open(PEER, 0, 0)
    delta = log.next_delta(PEER, NOW)
    assert delta is not None
    assert [(record.key, record.backend) for record in delta.pins] == [
        (a_key(2), "s1"),
        (a_key(1), "s2"),
    ]
    assert (delta.after_seq, delta.upto_seq) == (0, 3)
    assert len(log) == 2


def test_a_delta_covers_a_bounded_span_even_if_most_of_it_is_superseded(
    log: ReplicationLog,
) -> None:
    log.append(a_key(1), a_pin())
    for _ in range(DELTA_SPAN_MAX + 10):
        log.append(a_key(2), a_pin())
    log.open(PEER, 0, 0)
    delta = log.next_delta(PEER, NOW)
    assert delta is not None
    assert delta.upto_seq == DELTA_SPAN_MAX


def test_a_peer_goes_on_where_it_was(log: ReplicationLog) -> None:
    fill(log, 5)
    assert log.open(PEER, BOOT, 3)
    delta = log.next_delta(PEER, NOW)
    assert delta is not None
    assert (delta.after_seq, delta.upto_seq) == (3, 5)


@pytest.mark.parametrize(("boot_id", "seq"), [(BOOT + 1, 3), (BOOT, 99)])
def test_a_position_in_another_boots_log_is_none(
    log: ReplicationLog, boot_id: int, seq: int
) -> None:
    fill(log, 5)
    log.open(PEER, boot_id, seq)
    delta = log.next_delta(PEER, NOW)
    assert delta is not None
    assert delta.after_seq == 0


def test_who_is_behind_the_oldest_entry_is_told_of_a_gap() -> None:
    log = ReplicationLog(BOOT, entries_max=10)
    fill(log, 15)
    assert len(log) == 10
    assert not log.open(PEER, BOOT, 3)
    delta = log.next_delta(PEER, NOW)
    assert delta is not None
    assert (delta.after_seq, delta.upto_seq, len(delta.pins)) == (5, 15, 10)
    assert log.open(PEER, BOOT, 5)


def test_what_superseding_leaves_behind_is_bounded() -> None:
    log = ReplicationLog(BOOT, entries_max=10)
    log.append(a_key(1), a_pin())
    for _ in range(SPAN_PER_ENTRY_MAX * 10):
        log.append(a_key(2), a_pin())
    assert len(log) == 1
    assert not log.open(PEER, BOOT, 0)


def test_acknowledgements_are_cumulative(log: ReplicationLog) -> None:
    fill(log, 5)
    log.open(PEER, 0, 0)
    log.next_delta(PEER, NOW)
    log.ack(PEER, BOOT, 4)
    log.ack(PEER, BOOT, 2)
    assert log.unread(PEER) == 1
    assert log.waiting_for(4) == frozenset()
    assert log.waiting_for(5) == {PEER}


def test_nobody_acknowledges_what_was_not_sent_or_is_of_another_boot(log: ReplicationLog) -> None:
    fill(log, 5)
    log.open(PEER, 0, 0)
    log.ack(PEER, BOOT, 5)
    assert log.unread(PEER) == 5
    log.next_delta(PEER, NOW)
    log.ack(PEER, BootId(8), 5)
    assert log.unread(PEER) == 5
    log.ack(PEER, BOOT, 99)
    assert log.unread(PEER) == 0


def test_a_peer_without_a_stream_has_read_nothing_for_sure(log: ReplicationLog) -> None:
    fill(log, 5)
    assert log.unread(PEER) == 5
    assert log.waiting_for(5) == frozenset()


def test_peers_that_are_equally_far_get_one_delta() -> None:
    log = ReplicationLog(BootId(1))
    for peer in ("b", "c"):
        log.open(NodeName(peer), 0, 0)
    log.append(a_key(), a_pin())
    first = log.next_delta(NodeName("b"), NOW)
    assert log.next_delta(NodeName("c"), NOW) is first
    log.append(a_key(), a_pin("s2"))
    second = log.next_delta(NodeName("b"), NOW)
    assert second is not None
    assert [record.backend for record in second.pins] == ["s2"]
