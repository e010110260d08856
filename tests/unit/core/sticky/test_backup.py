import dataclasses

import pytest

from meshlb.core.sticky.backup import outdoes
from meshlb.core.sticky.held import HELD_S
from meshlb.core.sticky.homes import Homes
from meshlb.core.sticky.pin import EPOCH_MAX, Pin, record_from_pin
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import ClaimAnswer, Delta, Rank, Replicate, Verdict, ViewMark
from tests.fakes.claims import (
    ME,
    OWNERS,
    B,
    C,
    Stage,
    announced,
    key_held_by,
    sent,
    the_answer,
)
from tests.fakes.pins import NOW, TTL_S, a_pin, a_proposal

KEY = key_held_by(B, ME)
PIN = a_pin("s1", stamp_ms=500)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_what_the_home_asks_for_is_held_aside_and_not_routed_by(stage: Stage) -> None:
    effects = stage.asked_to_hold(B, KEY, PIN)
    assert the_answer(effects) == (B, Verdict.DONE, None)
    assert announced(effects) == []
    assert stage.machine.replica.look_up(KEY, NOW) is None


def test_it_enters_the_table_with_the_homes_delta(stage: Stage) -> None:
    stage.asked_to_hold(B, KEY, PIN)
    stage.hear(B, Delta(BootId(1), 0, 1, (record_from_pin(KEY, PIN, now=NOW),)))
    assert stage.store[KEY] == PIN
    assert announced(stage.wait(HELD_S)) == []


def test_who_is_not_home_by_this_view_is_refused(stage: Stage) -> None:
    assert the_answer(stage.asked_to_hold(C, KEY, PIN)) == (C, Verdict.FENCED, None)
    elsewhere = key_held_by(B, C)
    assert the_answer(stage.asked_to_hold(B, elsewhere, PIN)) == (B, Verdict.FENCED, None)
    stage.enter((ME, C), view_id=2)
    assert the_answer(stage.asked_to_hold(B, KEY, PIN)) == (B, Verdict.FENCED, None)
    assert stage.machine.counters.fenced == 3


def test_a_record_that_no_honest_member_sends_is_refused(stage: Stage) -> None:
    absurd = dataclasses.replace(record_from_pin(KEY, PIN, now=NOW), epoch=EPOCH_MAX + 1)
    effects = stage.hear(B, Replicate(5, 1, absurd))
    assert the_answer(effects) == (B, Verdict.FENCED, None)
    assert stage.machine.counters.refused == 1


def test_a_home_that_lacks_a_pin_is_told_of_it(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s7")
    peer, verdict, pin = the_answer(stage.asked_to_hold(B, KEY, PIN))
    assert (peer, verdict, pin and pin.backend) == (B, Verdict.EXISTS, "s7")


def test_a_home_is_told_of_what_another_one_had_held_here(stage: Stage) -> None:
    stage.asked_to_hold(B, KEY, PIN)
    other = a_pin("s2", stamp_ms=900)
    _, verdict, pin = the_answer(stage.asked_to_hold(B, KEY, other))
    assert (verdict, pin and pin.backend) == (Verdict.EXISTS, "s1")


def test_what_this_node_proposed_as_home_is_named_to_the_home_after_it(stage: Stage) -> None:
    """The backup of that time may hold it, and then the two have agreed."""
    key = key_held_by(ME, B, nth=2)
    stage.claimed_by(C, a_proposal(key, "s1"))
    newcomer = next(
        name
        for number in range(1_000)
        if Homes((*OWNERS, name := NodeName(f"new-{number}"))).holders(key) == (name, ME)
    )
    stage.enter((*OWNERS, newcomer), view_id=2)
    effects = stage.asked_to_hold(newcomer, key, a_pin("s2", stamp_ms=1))
    peer, verdict, pin = the_answer(effects)
    assert (peer, verdict) == (newcomer, Verdict.EXISTS)
    assert pin is not None
    assert (pin.backend, pin.rank) == ("s1", Rank.PROVISIONAL)
    again = stage.asked_to_hold(newcomer, key, a_pin("s1", stamp_ms=1))
    assert the_answer(again) == (newcomer, Verdict.DONE, None)


def test_asking_twice_is_answered_alike(stage: Stage) -> None:
    stage.asked_to_hold(B, KEY, PIN)
    assert the_answer(stage.asked_to_hold(B, KEY, PIN)) == (B, Verdict.DONE, None)


def test_a_provisional_pin_that_comes_later_does_not_undo_what_is_held(stage: Stage) -> None:
    """Or the home would take a refusal for the proof that nothing is held here."""
    stage.asked_to_hold(B, KEY, PIN)
    stage.store[KEY] = a_pin("s7", rank=Rank.PROVISIONAL, stamp_ms=1)
    assert the_answer(stage.asked_to_hold(B, KEY, PIN)) == (B, Verdict.DONE, None)
    other = a_pin("s8", stamp_ms=500)
    assert the_answer(stage.asked_to_hold(B, KEY, other))[1] is Verdict.EXISTS


# Announcing ----------------------------------------------------------------------------------


def test_what_is_held_is_announced_before_a_new_view_is_marked(stage: Stage) -> None:
    stage.asked_to_hold(B, KEY, PIN)
    effects = stage.enter((ME, C), view_id=2, is_marked=False)
    assert announced(effects) == [(KEY, "s1", Rank.QUORATE)]
    assert announced(effects[:1])
    assert all(message == ViewMark(2) for _, message in sent(effects))
    assert sent(effects)


def test_what_a_silent_home_left_here_is_announced_after_a_while(stage: Stage) -> None:
    stage.asked_to_hold(B, KEY, PIN)
    assert announced(stage.wait(HELD_S - 0.1)) == []
    assert announced(stage.wait(0.1)) == [(KEY, "s1", Rank.QUORATE)]


def test_a_hedged_claim_is_answered_with_what_is_held_and_everybody_is_told(stage: Stage) -> None:
    stage.asked_to_hold(B, KEY, PIN)
    effects = stage.claimed_by(C, a_proposal(KEY, "s2"), is_hedged=True)
    _, verdict, pin = the_answer(effects)
    assert (verdict, pin and pin.backend) == (Verdict.EXISTS, "s1")
    assert announced(effects) == [(KEY, "s1", Rank.QUORATE)]


def test_the_last_words_of_a_peer_are_repeated_when_it_leaves_the_view(stage: Stage) -> None:
    record = record_from_pin(KEY, PIN, now=NOW)
    stage.hear(C, Delta(BootId(1), 0, 1, (record,)))
    assert announced(stage.enter(OWNERS, view_id=2)) == []
    assert announced(stage.enter((ME, B), view_id=3)) == [(KEY, "s1", Rank.QUORATE)]
    assert stage.machine.counters.announced == 1


def test_an_answer_of_a_peer_is_among_its_last_words(stage: Stage) -> None:
    key = key_held_by(B, C)
    ((_, claim),) = sent(stage.start(a_proposal(key)))
    record = record_from_pin(key, PIN, now=NOW)
    stage.hear(B, ClaimAnswer(claim.request, Verdict.DONE, record))  # type: ignore[union-attr]  # a Claim
    assert announced(stage.enter((ME, C), view_id=2)) == [(key, "s1", Rank.QUORATE)]


# Which of two pins the home has to hear of ---------------------------------------------------

PROPOSED = a_pin("s1", epoch=2, rank=Rank.QUORATE, stamp_ms=500)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(a_pin("s7", epoch=3, rank=Rank.PROVISIONAL), id="a later epoch"),
        pytest.param(a_pin("", epoch=2), id="a tombstone"),
        pytest.param(a_pin("s7", epoch=2, stamp_ms=900), id="held before, though stamped later"),
        pytest.param(a_pin("s1", epoch=2, stamp_ms=400), id="the same backend, stamped earlier"),
        pytest.param(
            a_pin("s7", epoch=2, rank=Rank.PROVISIONAL, stamp_ms=400),
            id="a lower rank, but stamped earlier",
        ),
        pytest.param(a_pin("s7", epoch=2, expires_at=NOW - 1), id="one that lingers"),
    ],
)
def test_the_home_has_to_hear_of(known: Pin) -> None:
    assert outdoes(known, PROPOSED, NOW)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(a_pin("s7", epoch=1), id="an earlier epoch"),
        pytest.param(PROPOSED, id="the same pin"),
        pytest.param(
            a_pin("s1", epoch=2, rank=Rank.PROVISIONAL, stamp_ms=400), id="the pin it was before"
        ),
        pytest.param(
            a_pin("s7", epoch=2, rank=Rank.PROVISIONAL, stamp_ms=900),
            id="a lower rank and a later stamp",
        ),
        pytest.param(a_pin("s7", epoch=9, expires_at=NOW - TTL_S), id="one long expired"),
    ],
)
def test_the_home_may_go_on_over(known: Pin) -> None:
    assert not outdoes(known, PROPOSED, NOW)
