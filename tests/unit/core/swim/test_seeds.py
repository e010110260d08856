"""Addresses to join by, and when a node that has just started is a majority."""

from meshlb.core.swim import Membership, StreamClosed, StreamReceived, ViewChanged
from meshlb.model import Address, NodeName
from tests.fakes.swim import address_of, membership, only, open_stream, told

ELSEWHERE = Address("10.9.9.9", 7946)


def hear(machine: Membership, peer: str, *, now: float) -> None:
    machine.receive(StreamReceived(NodeName(peer), (told(peer),)), now)


def test_a_node_alone_waits_for_its_seeds_before_it_is_a_majority():
    machine = membership(seeds=[address_of("a"), address_of("b"), ELSEWHERE])
    assert not machine.ownership.quorate
    hear(machine, "b", now=0.0)
    assert machine.ownership.quorate


def test_a_seed_that_leads_to_this_node_under_another_address_is_not_waited_for():
    machine = membership(seeds=[ELSEWHERE])
    assert not machine.ownership.quorate
    machine.seed_met(ELSEWHERE)
    (view,) = only(ViewChanged, machine.handle_timer(machine.next_deadline()))
    assert view.quorate


def test_a_peer_that_died_before_it_said_a_word_makes_no_majority_of_a_node_alone():
    """Found by the simulator: a handshake, then silence, and the newcomer agreed with itself."""
    machine = membership(seeds=[ELSEWHERE])
    open_stream(machine, "b")
    machine.seed_met(ELSEWHERE)
    machine.receive(StreamClosed(NodeName("b")), 1.0)
    assert not machine.ownership.quorate
    open_stream(machine, "b", 2.0)
    hear(machine, "b", now=2.0)
    machine.seed_met(ELSEWHERE)
    machine.receive(StreamClosed(NodeName("b")), 3.0)
    assert machine.ownership.quorate, "b is met, and alive as far as anybody knows"
