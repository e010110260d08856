import pytest

from meshlb.core.sticky import claimer as claimer_module
from meshlb.core.sticky.claimer import CLAIM_TIMEOUT_S, REPEAT_S
from meshlb.core.sticky.events import (
    ClaimDone,
    Effect,
    PeerConnected,
    PeerFed,
    PeerLost,
    SuspectsChanged,
)
from meshlb.core.sticky.fallback import SETTLE_EVERY_S, SETTLE_FOR_OTHERS_LOOKS
from meshlb.core.sticky.pin import ClaimOutcome, Pin, record_from_pin
from meshlb.core.sticky.standing import PATIENCE_DOUBTED_S, PATIENCE_S, RETRY_S
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import Claim, ClaimAnswer, Delta, Rank, Verdict
from tests.fakes.claims import (
    ME,
    OWNERS,
    B,
    C,
    Stage,
    announced,
    key_held_by,
    sent,
    the_done,
    the_replicate,
)
from tests.fakes.pins import NOW, a_pin, a_proposal

KEY = key_held_by(B, C)
"""Home and backup are others: this node is nothing but the claimer."""

PROPOSAL = a_proposal(KEY, "s1")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def claims(effects: list[Effect]) -> list[tuple[NodeName, bool]]:
    """Who was asked, and whether as backup."""
    return [(peer, message.hedged) for peer, message in sent(effects) if isinstance(message, Claim)]


def answer(stage: Stage, effects: list[Effect], verdict: Verdict, pin: Pin | None) -> list[Effect]:
    """The answer to the claim among `effects`."""
    ((peer, claim),) = [(p, m) for p, m in sent(effects) if isinstance(m, Claim)]
    record = None if pin is None else record_from_pin(KEY, pin, now=stage.now)
    return stage.hear(peer, ClaimAnswer(claim.request, verdict, record))


def test_a_live_pin_of_the_table_ends_the_claim_at_once(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s7")
    assert stage.start(PROPOSAL) == [ClaimDone(1, a_pin("s7"), ClaimOutcome.HIT)]


def test_the_home_is_asked_and_its_new_pin_is_kept_and_given(stage: Stage) -> None:
    effects = stage.start(PROPOSAL)
    assert claims(effects) == [(B, False)]
    done = the_done(answer(stage, effects, Verdict.DONE, a_pin("s1")))
    assert (done.token, done.pin.backend, done.outcome) == (1, "s1", ClaimOutcome.NEW)
    assert stage.store[KEY].backend == "s1"
    assert stage.machine.next_deadline() is None


def test_a_pin_that_somebody_else_made_is_a_hit(stage: Stage) -> None:
    done = the_done(answer(stage, stage.start(PROPOSAL), Verdict.EXISTS, a_pin("s7")))
    assert (done.pin.backend, done.outcome) == ("s7", ClaimOutcome.HIT)


def test_claims_of_one_key_share_one_question_and_one_answer(stage: Stage) -> None:
    effects = stage.start(PROPOSAL, token=1)
    assert stage.start(a_proposal(KEY, "s2"), token=2) == []
    done = answer(stage, effects, Verdict.DONE, a_pin("s1"))
    assert [(d.token, d.pin.backend, d.outcome) for d in done if isinstance(d, ClaimDone)] == [
        (1, "s1", ClaimOutcome.NEW),
        (2, "s1", ClaimOutcome.HIT),
    ]


def test_a_silent_home_is_hedged_and_then_asked_again(stage: Stage) -> None:
    stage.start(PROPOSAL)
    assert claims(stage.wait(PATIENCE_S - 0.01)) == []
    assert claims(stage.wait(0.01)) == [(C, True)]
    assert claims(stage.wait(REPEAT_S)) == [(B, False)]


@pytest.mark.parametrize("verdict", [Verdict.FENCED, Verdict.NOT_READY])
def test_who_is_no_holder_or_not_ready_is_asked_again_soon(stage: Stage, verdict: Verdict) -> None:
    answer(stage, stage.start(PROPOSAL), verdict, None)
    assert claims(stage.wait(RETRY_S)) == [(B, False)]


def test_a_home_without_a_stream_is_hedged_soon(stage: Stage) -> None:
    stage.tell(PeerLost(B))
    stage.start(PROPOSAL)
    assert claims(stage.wait(PATIENCE_DOUBTED_S)) == [(C, True)]


def test_a_home_that_is_lost_while_it_is_asked_is_hedged_soon(stage: Stage) -> None:
    stage.start(PROPOSAL)
    stage.tell(PeerLost(B))
    assert claims(stage.wait(PATIENCE_DOUBTED_S)) == [(C, True)]


def test_a_suspected_home_is_hedged_soon_and_one_that_has_refuted_is_not(stage: Stage) -> None:
    stage.tell(SuspectsChanged(frozenset({B})))
    stage.start(PROPOSAL)
    assert claims(stage.wait(PATIENCE_DOUBTED_S)) == [(C, True)]
    stage.tell(SuspectsChanged(frozenset()))
    stage.start(a_proposal(key_held_by(B, C, nth=1), "s1"))
    assert claims(stage.wait(PATIENCE_DOUBTED_S)) == []


def test_a_home_that_is_suspected_while_it_is_asked_is_hedged_soon(stage: Stage) -> None:
    stage.start(PROPOSAL)
    stage.tell(SuspectsChanged(frozenset({B})))
    assert claims(stage.wait(PATIENCE_DOUBTED_S)) == [(C, True)]


def test_a_home_with_a_new_stream_is_asked_again(stage: Stage) -> None:
    stage.start(PROPOSAL)
    stage.tell(PeerLost(B))
    stage.tell(PeerConnected(B, BootId(1)))
    assert claims(stage.tell(PeerFed(B))) == [(B, False)]


def test_a_new_home_is_asked_as_soon_as_the_view_changes(stage: Stage) -> None:
    stage.start(PROPOSAL)
    assert claims(stage.enter((C, ME), view_id=2)) == [(C, False)]


def test_a_view_that_leaves_the_home_in_place_changes_nothing(stage: Stage) -> None:
    stage.start(PROPOSAL)
    assert claims(stage.enter(OWNERS, view_id=2)) == []


def test_the_pin_may_come_by_another_way(stage: Stage) -> None:
    effects = stage.start(PROPOSAL)
    record = record_from_pin(KEY, a_pin("s7"), now=NOW)
    done = the_done(stage.hear(C, Delta(BootId(1), 0, 1, (record,))))
    assert (done.pin.backend, done.outcome) == ("s7", ClaimOutcome.HIT)
    assert answer(stage, effects, Verdict.EXISTS, a_pin("s7")) == []


# Without agreement ---------------------------------------------------------------------------


def test_when_nobody_answers_the_client_gets_a_provisional_pin_that_all_are_told_of(
    stage: Stage,
) -> None:
    stage.start(PROPOSAL)
    effects = stage.wait(CLAIM_TIMEOUT_S)
    done = the_done(effects)
    assert (done.pin.backend, done.pin.rank) == ("s1", Rank.PROVISIONAL)
    assert done.outcome is ClaimOutcome.PROVISIONAL
    assert announced(effects) == [(KEY, "s1", Rank.PROVISIONAL)]


def test_a_provisional_pin_is_claimed_again_until_it_is_agreed_on(stage: Stage) -> None:
    stage.start(PROPOSAL)
    stage.wait(CLAIM_TIMEOUT_S)
    again = stage.wait(SETTLE_EVERY_S)
    assert claims(again)[0] == (B, False)
    assert answer(stage, again, Verdict.DONE, a_pin("s1")) == []
    assert stage.store[KEY].rank is Rank.QUORATE
    assert claims(stage.wait(3 * SETTLE_EVERY_S)) == []


def test_the_home_has_a_provisional_pin_agreed_on_whose_maker_forgot_it() -> None:
    stage, key = Stage(), key_held_by(ME, B)
    record = record_from_pin(key, a_pin("s1", rank=Rank.PROVISIONAL, claimer=C), now=NOW)
    stage.hear(C, Delta(BootId(1), 0, 1, (record,)))
    _, proposed = the_replicate(stage.wait(SETTLE_EVERY_S))
    assert (proposed.pin.key, proposed.pin.rank) == (key, Rank.QUORATE)


def test_anybody_has_a_provisional_pin_agreed_on_that_its_home_forgot_as_well() -> None:
    stage, key = Stage(), key_held_by(B, C)
    record = record_from_pin(key, a_pin("s1", rank=Rank.PROVISIONAL, claimer=C), now=NOW)
    stage.hear(C, Delta(BootId(1), 0, 1, (record,)))
    for _ in range(SETTLE_FOR_OTHERS_LOOKS):
        assert claims(stage.wait(SETTLE_EVERY_S)) == []
    assert claims(stage.wait(SETTLE_EVERY_S)) == [(B, False)]


def test_without_any_owner_the_client_waits_for_a_view_but_not_for_ever() -> None:
    stage = Stage(owners=())
    assert stage.start(PROPOSAL) == []
    assert claims(stage.enter(OWNERS)) == [(B, False)]
    stage = Stage(owners=())
    stage.start(PROPOSAL)
    assert the_done(stage.wait(CLAIM_TIMEOUT_S)).outcome is ClaimOutcome.PROVISIONAL


def test_a_provisional_answer_stays_out_of_the_table(stage: Stage) -> None:
    """It may be an override of the answerer; its provisional pins come as deltas."""
    provisional = a_pin("s1", epoch=4, rank=Rank.PROVISIONAL)
    done = the_done(answer(stage, stage.start(PROPOSAL), Verdict.DONE, provisional))
    assert done.outcome is ClaimOutcome.PROVISIONAL
    assert KEY not in stage.store


# Moving --------------------------------------------------------------------------------------

MOVE = a_proposal(KEY, "s2", moved_from="s1", moved_from_epoch=0)


def test_a_moved_pin_replaces_the_unusable_one(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s1")
    done = the_done(answer(stage, stage.start(MOVE), Verdict.DONE, a_pin("s2", epoch=1)))
    assert (done.pin.backend, done.outcome) == ("s2", ClaimOutcome.MOVED)
    assert stage.store[KEY].backend == "s2"


def test_a_move_that_is_not_agreed_is_an_override_on_this_node_alone(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s1")
    stage.start(MOVE)
    effects = stage.wait(CLAIM_TIMEOUT_S)
    assert the_done(effects).pin.backend == "s2"
    assert announced(effects) == []
    assert stage.store[KEY].backend == "s1"
    pin = stage.machine.replica.look_up(KEY, stage.now)
    assert pin is not None
    assert (pin.backend, pin.rank) == ("s2", Rank.PROVISIONAL)


def test_a_home_that_insists_leaves_the_pin_and_this_node_overrides_it(stage: Stage) -> None:
    stage.enter(OWNERS, view_id=2, is_quorate=False)
    stage.store[KEY] = a_pin("s1")
    done = the_done(answer(stage, stage.start(MOVE), Verdict.EXISTS, a_pin("s1")))
    assert (done.pin.backend, done.pin.epoch) == ("s2", 0)
    assert stage.store[KEY].backend == "s1"


def test_overrides_end_when_the_majority_is_back(stage: Stage) -> None:
    test_a_home_that_insists_leaves_the_pin_and_this_node_overrides_it(stage)
    stage.enter(OWNERS, view_id=3)
    assert stage.machine.replica.look_up(KEY, stage.now) == stage.store[KEY]


def test_an_override_that_is_unusable_too_is_dropped(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s1")
    stage.start(MOVE)
    stage.wait(CLAIM_TIMEOUT_S)
    override = stage.machine.replica.look_up(KEY, stage.now)
    assert override is not None
    onward = a_proposal(KEY, "s3", moved_from="s2", moved_from_epoch=override.epoch)
    assert claims(stage.start(onward, token=2)) == [(B, False)]


def test_who_waits_for_a_move_is_not_given_the_pin_to_be_moved(stage: Stage) -> None:
    """The first claim of a key and a move of it can meet in one attempt."""
    first = stage.start(PROPOSAL, token=1)
    stage.start(a_proposal(KEY, "s2", moved_from="s7", moved_from_epoch=0), token=2)
    effects = answer(stage, first, Verdict.EXISTS, a_pin("s7"))
    assert the_done(effects).token == 1
    done = the_done(answer(stage, effects, Verdict.DONE, a_pin("s2", epoch=1)))
    assert (done.token, done.pin.backend, done.outcome) == (2, "s2", ClaimOutcome.MOVED)


def test_a_claim_after_an_unpin_asks_for_a_later_epoch_than_the_tombstones(stage: Stage) -> None:
    stage.store[KEY] = a_pin("", epoch=3)
    ((_, claim),) = sent(stage.start(PROPOSAL))
    assert isinstance(claim, Claim)
    assert (claim.moved_from, claim.moved_from_epoch) == ("", 3)


# Limits --------------------------------------------------------------------------------------


def test_a_claim_beyond_the_limit_is_answered_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimer_module, "ATTEMPTS_MAX", 1)
    stage.start(PROPOSAL)
    beyond = a_proposal(key_held_by(B, C, nth=1), "s1")
    assert the_done(stage.start(beyond, token=2)).outcome is ClaimOutcome.PROVISIONAL
    assert stage.machine.counters.overflowed == 1


def test_a_client_beyond_the_limit_of_one_key_is_answered_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimer_module, "WAITING_PER_KEY_MAX", 1)
    stage.start(PROPOSAL)
    assert the_done(stage.start(PROPOSAL, token=2)).outcome is ClaimOutcome.PROVISIONAL
