import pytest

from meshlb.core.swim import LAN, DatagramReceived, Lagged, StreamReceived
from meshlb.core.swim.membership import Membership
from meshlb.model import BootId, NodeName
from tests.fakes.swim import address_of, membership, told

FIVE = "abcde"


def a_node() -> Membership:
    """Member a of five; nobody has a stream to it."""
    node = membership("a")
    for name in FIVE[1:]:
        hear(node, name, 0.0)
    assert node.ownership.quorate
    return node


def hear(node: Membership, name: str, now: float) -> None:
    life = BootId(ord(name))
    words = (told(name),)
    node.receive(DatagramReceived(NodeName(name), address_of(name), words, life), now)


def run(node: Membership, *, since: float, until: float) -> None:
    """Fire the timers when they are due, and hear nothing."""
    now = since
    while (due := node.next_deadline()) is not None and due <= until:
        now = max(now, due)
        node.handle_timer(now)


def test_who_hears_nobody_for_as_long_as_a_suspicion_lasts_is_no_majority() -> None:
    node = a_node()
    run(node, since=0.0, until=LAN.suspicion_s - 0.01)
    assert node.ownership.quorate
    run(node, since=LAN.suspicion_s - 0.01, until=4.0)
    assert not node.ownership.quorate
    assert all(member.is_live for member in node.members())


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_first_word_of_anybody_ends_it(is_stream: bool) -> None:
    node = a_node()
    run(node, since=0.0, until=4.0)
    if is_stream:
        node.receive(StreamReceived(NodeName("c"), ()), 4.0)
    else:
        hear(node, "c", 4.0)
    assert node.ownership.quorate


def test_one_failed_probe_is_not_enough() -> None:
    node = a_node()
    now = 0.0
    while now < 3.0:  # somebody speaks now and then, and one probe after another fails
        now += LAN.suspicion_s - 0.1
        run(node, since=now, until=now)
        hear(node, "b", now)
        run(node, since=now, until=now + LAN.probe_interval_s)
    assert node.ownership.quorate


def test_who_knows_nobody_is_not_cut_off() -> None:
    node = membership("a")
    run(node, since=0.0, until=30.0)
    assert node.ownership.quorate


def test_who_stood_still_listens_before_it_takes_itself_for_cut_off() -> None:
    node = a_node()
    run(node, since=0.0, until=LAN.suspicion_s - 0.1)
    node.receive(Lagged(10.0), 12.0)
    node.handle_timer(12.0)
    assert node.ownership.quorate


def test_a_short_lag_puts_it_off_by_as_much() -> None:
    node = a_node()
    run(node, since=0.0, until=LAN.suspicion_s - 0.1)
    node.receive(Lagged(0.5), LAN.suspicion_s)
    run(node, since=LAN.suspicion_s, until=LAN.suspicion_s + 0.3)
    assert node.ownership.quorate
