import math

from meshlb.cluster.acks import ACK_S, Acks
from meshlb.model import NodeName

A, B = NodeName("a"), NodeName("b")


def test_acknowledgements_wait_a_moment_and_go_out_together_once() -> None:
    acks = Acks()
    acks.owe(A)
    assert acks.due(1.0) == []
    assert acks.next_deadline() == 1.0 + ACK_S
    acks.owe(B)
    acks.owe(A)
    assert acks.due(1.0 + ACK_S / 2) == []
    assert acks.due(1.0 + ACK_S) == [A, B]
    assert acks.due(2.0) == []
    assert acks.next_deadline() == math.inf


def test_a_peer_whose_stream_is_gone_is_owed_nothing() -> None:
    acks = Acks()
    acks.owe(A)
    assert acks.due(1.0) == []
    acks.drop(A)
    assert acks.next_deadline() == math.inf
    assert acks.due(2.0) == []


def test_with_nothing_owed_there_is_nothing_to_wait_for() -> None:
    acks = Acks()
    assert acks.due(1.0) == []
    assert acks.next_deadline() == math.inf
