from meshlb.core.sticky.held import HELD_S, Held
from meshlb.model import NodeName
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, a_key, a_pin

HOME, OTHER = NodeName("lb-1"), NodeName("lb-2")
PIN = a_pin(epoch=1)


def holding() -> Held:
    held = Held()
    assert held.add(a_key(), PIN, home=HOME, now=NOW) == []
    return held


def test_a_pin_is_let_go_once_its_home_tells_everybody() -> None:
    held = holding()
    held.see(a_key(), HOME, epoch=1, rank=Rank.QUORATE)
    assert held.get(a_key()) is None
    assert held.next_deadline() is None


def test_a_lesser_word_of_the_home_or_that_of_another_node_does_not_count() -> None:
    held = holding()
    held.see(a_key(), HOME, epoch=1, rank=Rank.PROVISIONAL)
    held.see(a_key(), HOME, epoch=0, rank=Rank.QUORATE)
    held.see(a_key(), OTHER, epoch=1, rank=Rank.QUORATE)
    assert held.get(a_key()) == PIN


def test_a_home_that_is_silent_for_too_long_has_its_pin_announced() -> None:
    held = holding()
    assert held.next_deadline() == NOW + HELD_S
    assert held.overdue(NOW + HELD_S - 0.1) == []
    assert held.overdue(NOW + HELD_S) == [(a_key(), PIN)]
    assert len(held) == 0


def test_the_latest_pin_that_a_home_proposed_is_held() -> None:
    held = holding()
    newer = a_pin("s2", epoch=1)
    held.add(a_key(), newer, home=HOME, now=NOW + 1)
    assert held.release(a_key()) == [(a_key(), newer)]
    assert held.release(a_key()) == []


def test_everything_is_let_go_with_the_view() -> None:
    held = holding()
    held.add(a_key(2), PIN, home=OTHER, now=NOW)
    assert held.release_all() == [(a_key(), PIN), (a_key(2), PIN)]
    assert held.release_all() == []


def test_the_oldest_is_announced_when_there_are_too_many() -> None:
    held = Held(pins_max=1)
    held.add(a_key(1), PIN, home=HOME, now=NOW)
    assert held.add(a_key(2), PIN, home=HOME, now=NOW) == [(a_key(1), PIN)]
    assert len(held) == 1
