import itertools

import pytest

from meshlb.core.swim import LAN, SendDatagram
from meshlb.core.swim.outbox import Outbox, ReturnPath
from meshlb.core.swim.relay import RELAYS_MAX, Relay
from meshlb.core.swim.view import View
from meshlb.model import NodeName
from meshlb.wire.messages import Ack, Nack, Ping, PingRequest
from tests.fakes.swim import address_of, member

B, C = NodeName("b"), NodeName("c")
ASKER = ReturnPath(B, address_of("b"))
REQUEST = PingRequest(77, C, address_of("c"))


@pytest.fixture
def outbox():
    return Outbox(View(member("a")), lambda _: 100)


@pytest.fixture
def relay(outbox):
    return Relay(outbox=outbox, timings=LAN, sequence=itertools.count(1))


def test_a_request_becomes_a_ping_and_its_answer_an_ack_for_the_asker(relay, outbox):
    relay.requested(REQUEST, ASKER, 0.0)
    assert outbox.drain() == [SendDatagram(address_of("c"), C, (Ping(1, C),))]
    relay.acked(1, C)
    assert outbox.drain() == [SendDatagram(address_of("b"), B, (Ack(77),))]
    relay.expire(99.0)
    assert outbox.drain() == []


def test_silence_becomes_a_nack(relay, outbox):
    relay.requested(REQUEST, ASKER, 0.0)
    outbox.drain()
    relay.expire(relay.next_deadline() - 0.001)
    assert outbox.drain() == []
    relay.expire(relay.next_deadline())
    assert outbox.drain() == [SendDatagram(address_of("b"), B, (Nack(77),))]
    assert relay.next_deadline() == float("inf")


def test_only_the_target_can_answer(relay, outbox):
    relay.requested(REQUEST, ASKER, 0.0)
    outbox.drain()
    relay.acked(1, NodeName("z"))
    assert outbox.drain() == []


def test_requests_beyond_the_limit_are_dropped(relay, outbox):
    for _ in range(RELAYS_MAX + 10):
        relay.requested(REQUEST, ASKER, 0.0)
    assert len(relay) == len(outbox.drain()) == RELAYS_MAX


def test_after_a_standstill_no_answer_is_owed(relay, outbox):
    relay.requested(REQUEST, ASKER, 0.0)
    outbox.drain()
    relay.clear()
    relay.expire(99.0)
    assert outbox.drain() == []
