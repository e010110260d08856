from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.choosing import chosen, existing
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.core.sticky.standing import Standing
from meshlb.model import NodeName
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, TTL_S, a_key, a_pin, a_proposal

ME, CLAIMER = NodeName("me"), NodeName("n7")
MAJORITY = Standing(ME, Barrier(ME), quorate=True)
MINORITY = Standing(ME, Barrier(ME), quorate=False)
CLAIM = a_proposal(a_key(), "s9")
MOVE = a_proposal(a_key(), "s9", moved_from="s1", moved_from_epoch=2)


def choose(
    known: Pin | None,
    *,
    tried: Pin | None = None,
    proposal: Proposal = CLAIM,
    standing: Standing = MAJORITY,
) -> tuple[str, int, Rank, str]:
    pin = chosen(known, tried, proposal, CLAIMER, standing, stamp_ms=77, now=NOW)
    return pin.backend, pin.epoch, pin.rank, pin.claimer


def test_of_an_unknown_key_the_claimer_decides() -> None:
    assert existing(None, CLAIM, MAJORITY, NOW) is None
    assert choose(None) == ("s9", 0, Rank.QUORATE, CLAIMER)


def test_an_agreed_pin_answers() -> None:
    assert existing(a_pin("s1"), CLAIM, MAJORITY, NOW) == a_pin("s1")


def test_a_provisional_pin_is_agreed_on_as_it_is() -> None:
    provisional = a_pin("s1", rank=Rank.PROVISIONAL)
    assert existing(provisional, CLAIM, MAJORITY, NOW) is None
    assert choose(provisional) == ("s1", 0, Rank.QUORATE, "n1")


def test_in_a_minority_whatever_there_is_answers() -> None:
    for known in (a_pin("s1", epoch=2), a_pin("s1", rank=Rank.PROVISIONAL), a_pin("", epoch=3)):
        assert existing(known, MOVE, MINORITY, NOW) == known


def test_a_minority_follows_an_expired_pin_without_a_new_epoch() -> None:
    dead = a_pin("s1", epoch=2, expires_at=NOW - TTL_S)
    assert existing(dead, CLAIM, MINORITY, NOW) is None
    assert choose(dead, standing=MINORITY) == ("s9", 2, Rank.MINORITY, CLAIMER)
    assert choose(dead) == ("s9", 3, Rank.QUORATE, CLAIMER)


def test_a_rejected_pin_is_followed_by_the_next_epoch() -> None:
    assert existing(a_pin("s1", epoch=2), MOVE, MAJORITY, NOW) is None
    assert choose(a_pin("s1", epoch=2), proposal=MOVE) == ("s9", 3, Rank.QUORATE, CLAIMER)


def test_a_minority_does_not_go_on_with_a_move_that_it_began_as_a_majority() -> None:
    dead, tried = a_pin("s1", epoch=2, expires_at=NOW - TTL_S), a_pin("s4", epoch=3)
    assert choose(dead, tried=tried, standing=MINORITY) == ("s9", 2, Rank.MINORITY, CLAIMER)
    assert choose(dead, tried=tried) == ("s4", 3, Rank.QUORATE, "n1")


def test_what_was_proposed_before_is_proposed_again() -> None:
    tried = a_pin("s4")
    assert choose(None, tried=tried)[0] == "s4"
    assert choose(a_pin("s1", rank=Rank.PROVISIONAL), tried=tried)[0] == "s4"


def test_what_was_proposed_before_does_not_hold_up_a_later_epoch() -> None:
    assert choose(a_pin("s1", epoch=2), tried=a_pin("s4", epoch=2), proposal=MOVE)[:2] == ("s9", 3)
    assert choose(a_pin("s1", epoch=2), tried=a_pin("s4", epoch=3), proposal=MOVE)[:2] == ("s4", 3)


def test_no_choice_outlives_the_end_of_a_pin() -> None:
    known = a_pin("s1", rank=Rank.PROVISIONAL, expires_at=NOW + 5, ends_at=NOW + 5)
    pin = chosen(known, None, CLAIM, CLAIMER, MAJORITY, stamp_ms=77, now=NOW)
    assert (pin.expires_at, pin.ends_at) == (NOW + 5, NOW + 5)
