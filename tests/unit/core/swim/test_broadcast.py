from meshlb.core.swim.broadcast import (
    TRANSMISSIONS_MIN,
    BroadcastQueue,
    size_bound_bytes,
    transmissions_for,
)
from meshlb.model import NodeName
from meshlb.wire.codec import encode_message
from meshlb.wire.messages import Ack, Nack, Ping, PingRequest, PushPull
from tests.fakes.swim import SUSPECT, address_of, told


def queue_of(*names):
    queue = BroadcastQueue(lambda _: 100)
    for name in names:
        queue.push(told(name))
    return queue


def names(updates):
    return [update.name for update in updates]


def test_the_newest_news_goes_first():
    assert names(queue_of(*"bcd").take(budget_bytes=1000, members=4)) == ["d", "c", "b"]


def test_news_that_was_told_less_often_goes_before_newer_news():
    queue = queue_of("b")
    queue.take(budget_bytes=1000, members=4)
    queue.push(told("c"))
    queue.take(budget_bytes=100, members=4)
    queue.take(budget_bytes=100, members=4)
    queue.push(told("d"))
    assert names(queue.take(budget_bytes=300, members=4)) == ["d", "b", "c"]


def test_a_packet_takes_what_fits():
    queue = queue_of(*"bcd")
    assert len(queue.take(budget_bytes=299, members=4)) == 2
    assert queue.take(budget_bytes=99, members=4) == []


def test_news_is_told_a_bounded_number_of_times():
    queue = queue_of("b")
    told_times = 0
    while queue.take(budget_bytes=1000, members=3):
        told_times += 1
    assert told_times == TRANSMISSIONS_MIN
    assert len(queue) == 0


def test_larger_clusters_hear_it_more_often():
    assert transmissions_for(2) == transmissions_for(8) == TRANSMISSIONS_MIN
    assert TRANSMISSIONS_MIN < transmissions_for(32) < transmissions_for(128)


def test_later_news_of_a_member_replaces_earlier():
    queue = queue_of("b")
    queue.push(told("b", SUSPECT))
    assert queue.take(budget_bytes=1000, members=3) == [told("b", SUSPECT)]


def test_the_size_estimate_is_never_below_the_encoded_size():
    long = NodeName("n" * 63)
    big = told("b", name=long, reporter=long, incarnation=2**63, boot_id=2**64 - 1)
    for message in (
        big,
        told("b"),
        Ping(2**32, long),
        PingRequest(2**32, long, address_of("b")),
        Ack(2**32),
        Nack(2**32),
        PushPull((big,) * 20, True),
    ):
        assert size_bound_bytes(message) >= len(encode_message(message))
