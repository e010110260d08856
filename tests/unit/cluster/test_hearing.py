from meshlb.cluster.hearing import SIGN_OF_LIFE_S, SignsOfLife, sort
from meshlb.model import BootId, NodeName
from meshlb.wire.broadcast_words import BroadcastAck
from meshlb.wire.messages import Ack, DeltaAck, Ping, ViewMark

A, B = NodeName("a"), NodeName("b")


def test_each_message_of_a_mixed_frame_goes_to_whom_it_concerns_in_order() -> None:
    pins, swim, orders = (
        (ViewMark(1), DeltaAck(BootId(1), 2)),
        (Ping(1, A), Ack(2)),
        BroadcastAck(3),
    )
    heard = sort((pins[0], swim[0], orders, pins[1], swim[1]))
    assert (heard.swim, list(heard.orders), tuple(heard.pins)) == (swim, [orders], pins)


def test_a_frame_about_pins_alone_is_handed_on_as_it_is() -> None:
    messages = (ViewMark(1), DeltaAck(BootId(1), 2))
    heard = sort(messages)
    assert heard.pins is messages
    assert not heard.swim
    assert not heard.orders


def test_that_a_peer_lives_is_news_now_and_then_and_on_a_new_stream() -> None:
    signs = SignsOfLife()
    assert signs.is_news(A, 1.0)
    assert not signs.is_news(A, 1.0 + SIGN_OF_LIFE_S / 2)
    assert signs.is_news(B, 1.0 + SIGN_OF_LIFE_S / 2)
    assert signs.is_news(A, 1.0 + SIGN_OF_LIFE_S)
    signs.forget(A)
    assert signs.is_news(A, 1.0 + SIGN_OF_LIFE_S)
