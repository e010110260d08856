import pytest

from meshlb.core.swim import SendDatagram, SendStream
from meshlb.core.swim.outbox import Outbox, ReturnPath
from meshlb.core.swim.view import View
from meshlb.model import NodeName
from meshlb.wire.limits import DATAGRAM_PLAIN_BYTES_MAX
from meshlb.wire.messages import Ack, Ping
from tests.fakes.swim import ALIVE, LEFT, SUSPECT, address_of, member, told

B, C = NodeName("b"), NodeName("c")
NEWS = told("d")


@pytest.fixture
def view():
    return View(member("a"))


def test_a_datagram_takes_gossip_along(view):
    outbox = Outbox(view, lambda _: 100)
    outbox.gossip(NEWS)
    outbox.datagram(address_of("b"), B, Ack(1))
    assert outbox.drain() == [SendDatagram(address_of("b"), B, (Ack(1), NEWS))]
    assert outbox.drain() == []


def test_a_datagram_never_grows_over_what_a_packet_holds(view):
    outbox = Outbox(view, lambda _: 100)
    for name in "bcdefghijklmnopqrstuvwxyz":
        outbox.gossip(told(name))
    outbox.datagram(address_of("b"), B, Ack(1))
    (sent,) = outbox.drain()
    assert len(sent.messages) == DATAGRAM_PLAIN_BYTES_MAX // 100


def test_a_suspect_is_told_so_before_anything_else_rides_along(view):
    view.apply(told("b", SUSPECT), 0.0)
    outbox = Outbox(view, lambda _: DATAGRAM_PLAIN_BYTES_MAX // 2)
    outbox.gossip(NEWS)
    outbox.datagram(address_of("b"), B, Ping(1, B))
    (sent,) = outbox.drain()
    assert sent.messages == (Ping(1, B), told("b", SUSPECT))


def test_an_announcement_goes_over_every_stream_at_once_and_rides_along_later(view):
    outbox = Outbox(view, lambda _: 100)
    outbox.streams = {B: None, C: None}
    outbox.announce(NEWS)
    assert outbox.drain() == [SendStream(B, (NEWS,)), SendStream(C, (NEWS,))]
    outbox.datagram(address_of("b"), B)
    assert NEWS in outbox.drain()[0].messages


def test_without_a_stream_nothing_is_sent_on_it(view):
    outbox = Outbox(view, lambda _: 100)
    outbox.stream(B, Ack(1))
    assert outbox.drain() == []


def test_an_answer_goes_back_the_way_the_question_came(view):
    outbox = Outbox(view, lambda _: 100)
    outbox.answer(ReturnPath(B, address_of("z")), Ack(1))
    outbox.answer(ReturnPath(B, None), Ack(2))
    assert outbox.drain() == [
        SendDatagram(address_of("z"), B, (Ack(1),)),
        SendStream(B, (Ack(2),)),
    ]


def test_last_words_reach_those_without_a_stream_by_datagram(view):
    view.apply(told("b", ALIVE), 0.0)
    view.apply(told("c", ALIVE), 0.0)
    outbox = Outbox(view, lambda _: 100)
    outbox.streams = {B: None}
    goodbye = told("a", LEFT)
    outbox.announce_last(goodbye, [B, C])
    assert outbox.drain() == [
        SendStream(B, (goodbye,)),
        SendDatagram(address_of("c"), C, (goodbye,)),
    ]
