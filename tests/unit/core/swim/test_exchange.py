from random import Random

from meshlb.core.swim import LAN, SendStream
from meshlb.core.swim.broadcast import size_bound_bytes
from meshlb.core.swim.exchange import Exchange
from meshlb.core.swim.outbox import Outbox
from meshlb.core.swim.view import View
from meshlb.model import NodeName
from meshlb.wire.messages import PushPull
from tests.fakes.swim import LEFT, member, told

B = NodeName("b")


def exchange_of(*updates):
    view = View(member("a"))
    for update in updates:
        view.apply(update, 0.0)
    outbox = Outbox(view, size_bound_bytes)
    return Exchange(view, outbox, LAN, Random(1), 0.0), view, outbox


def test_the_whole_view_is_told_on_a_stream():
    exchange, view, outbox = exchange_of(told("b"))
    exchange.tell(B, wants_reply=False)
    whole = PushPull((view.me.update(), told("b")), False)
    assert outbox.drain() == [SendStream(B, (whole,))]


def test_views_are_exchanged_with_one_peer_about_once_an_interval():
    exchange, _, outbox = exchange_of(told("b"), told("c"))
    outbox.streams.update({B: None, NodeName("c"): None})
    times = []
    while (now := exchange.next_deadline()) < 100 * LAN.push_pull_interval_s:
        exchange.handle_timer(now)
        (effect,) = outbox.drain()
        assert isinstance(effect, SendStream)
        assert effect.messages[0].wants_reply
        times.append(now)
    assert 90 <= len(times) <= 110


def test_nothing_is_due_before_its_time():
    exchange, _, outbox = exchange_of(told("b"))
    outbox.streams[B] = None
    exchange.handle_timer(exchange.next_deadline() - 0.001)
    assert outbox.drain() == []


def test_who_left_long_ago_is_forgotten():
    exchange, view, _ = exchange_of(told("b", LEFT))
    exchange.handle_timer(LAN.left_kept_s)
    assert view.get(B)
    exchange.handle_timer(LAN.left_kept_s + 2 * LAN.push_pull_interval_s)
    assert view.get(B) is None
