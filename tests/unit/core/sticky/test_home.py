import dataclasses

import pytest

from meshlb.core.sticky import home as home_module
from meshlb.core.sticky.backup import outdoes
from meshlb.core.sticky.events import Effect, PeerConnected, PeerFed, PeerLost
from meshlb.core.sticky.home import MAKING_TIMEOUT_S
from meshlb.core.sticky.pin import (
    EPOCH_MAX,
    ClaimOutcome,
    Pin,
    pin_from_record,
    record_from_pin,
)
from meshlb.core.sticky.standing import PATIENCE_DOUBTED_S, RETRY_S
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import (
    ClaimAnswer,
    Delta,
    Rank,
    ReplicateAnswer,
    Verdict,
    ViewMark,
)
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
    the_done,
    the_replicate,
)
from tests.fakes.pins import NOW, TTL_S, a_pin, a_proposal

KEY = key_held_by(ME, B)
PROPOSAL = a_proposal(KEY, "s1")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def backup_says(
    stage: Stage, asked: list[Effect], verdict: Verdict, pin: Pin | None = None
) -> list[Effect]:
    """The answer of the backup to the replication among `asked`."""
    backup, replicate = the_replicate(asked)
    record = None if pin is None else record_from_pin(KEY, pin, now=stage.now)
    return stage.hear(backup, ReplicateAnswer(replicate.request, verdict, record))


def answers(effects: list[Effect]) -> list[tuple[NodeName, Verdict, str]]:
    return [
        (peer, message.verdict, message.pin.backend if message.pin else "")
        for peer, message in sent(effects)
        if isinstance(message, ClaimAnswer)
    ]


# Present keys --------------------------------------------------------------------------------


def test_a_live_pin_is_answered_at_once_even_before_the_view_is_marked() -> None:
    stage = Stage(is_marked=False)
    stage.store[KEY] = a_pin("s7")
    assert answers(stage.claimed_by(C, PROPOSAL)) == [(C, Verdict.EXISTS, "s7")]


def test_a_pin_that_expired_just_now_is_renewed_and_told(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s7", expires_at=NOW - 10)
    effects = stage.claimed_by(C, PROPOSAL)
    assert answers(effects) == [(C, Verdict.EXISTS, "s7")]
    assert announced(effects) == [(KEY, "s7", Rank.QUORATE)]
    assert stage.store[KEY].expires_at == NOW + TTL_S


def test_a_pin_that_expired_long_ago_is_followed_by_one_of_a_later_epoch(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s7", epoch=2, expires_at=NOW - TTL_S)
    _, replicate = the_replicate(stage.claimed_by(C, PROPOSAL))
    assert (replicate.pin.backend, replicate.pin.epoch) == ("s1", 3)


# New keys ------------------------------------------------------------------------------------


def test_a_new_pin_is_confirmed_and_told_only_after_the_backup_holds_it(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    backup, replicate = the_replicate(asked)
    assert backup == B
    assert (replicate.pin.backend, replicate.pin.rank, replicate.pin.claimer) == (
        "s1",
        Rank.QUORATE,
        C,
    )
    assert answers(asked) == []
    assert KEY not in stage.store
    confirmed = backup_says(stage, asked, Verdict.DONE)
    assert answers(confirmed) == [(C, Verdict.DONE, "s1")]
    assert announced(confirmed) == [(KEY, "s1", Rank.QUORATE)]


def test_of_many_claimers_the_first_one_decides(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    assert stage.claimed_by(B, a_proposal(KEY, "s2")) == []
    assert stage.start(a_proposal(KEY, "s3")) == []
    confirmed = backup_says(stage, asked, Verdict.DONE)
    assert answers(confirmed) == [(C, Verdict.DONE, "s1"), (B, Verdict.EXISTS, "s1")]
    assert the_done(confirmed).outcome is ClaimOutcome.HIT


def test_a_claim_that_comes_twice_is_answered_once(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    assert stage.claimed_by(C, PROPOSAL) == []
    assert answers(backup_says(stage, asked, Verdict.DONE)) == [(C, Verdict.DONE, "s1")]


def test_an_owner_alone_confirms_alone() -> None:
    stage = Stage(owners=(ME,))
    effects = stage.start(PROPOSAL)
    assert the_done(effects).outcome is ClaimOutcome.NEW
    assert announced(effects) == [(KEY, "s1", Rank.QUORATE)]


def test_a_pin_that_the_backup_knows_is_taken_over(stage: Stage) -> None:
    effects = backup_says(stage, stage.claimed_by(C, PROPOSAL), Verdict.EXISTS, a_pin("s7"))
    assert answers(effects) == [(C, Verdict.EXISTS, "s7")]
    assert announced(effects) == [(KEY, "s7", Rank.QUORATE)]


def test_a_pin_that_the_backup_names_without_agreement_is_proposed_instead(stage: Stage) -> None:
    named = a_pin("s7", rank=Rank.PROVISIONAL, stamp_ms=2**40 + 7)
    again = backup_says(stage, stage.claimed_by(C, PROPOSAL), Verdict.EXISTS, named)
    assert announced(again) == []
    assert the_replicate(again)[1].pin.backend == "s7"
    assert answers(backup_says(stage, again, Verdict.DONE)) == [(C, Verdict.DONE, "s7")]


def test_home_and_backup_with_a_provisional_pin_each_agree_on_that_of_the_backup(
    stage: Stage,
) -> None:
    """Once the home proposed its own again, the backup objected again, and so on for ever."""
    stage.store[KEY] = a_pin("s7", rank=Rank.PROVISIONAL, stamp_ms=8)
    asked = stage.claimed_by(C, PROPOSAL)
    assert the_replicate(asked)[1].pin.backend == "s7"
    named = a_pin("s8", rank=Rank.PROVISIONAL, stamp_ms=7)
    again = backup_says(stage, asked, Verdict.EXISTS, named)
    assert the_replicate(again)[1].pin.backend == "s8"
    assert answers(backup_says(stage, again, Verdict.DONE)) == [(C, Verdict.DONE, "s8")]


def test_what_another_backup_may_hold_stands_against_a_provisional_pin(stage: Stage) -> None:
    """Or two are agreed on, if that backup lets go of it late (PROVISIONAL_OBJECTS in Spin)."""
    stage.claimed_by(C, PROPOSAL)
    asked = stage.enter((ME, C), view_id=2)
    named = a_pin("s7", rank=Rank.PROVISIONAL, stamp_ms=7)
    again = backup_says(stage, asked, Verdict.EXISTS, named)
    _, replicate = the_replicate(again)
    assert (replicate.pin.backend, replicate.pin.stamp_ms) == ("s1", 6)
    assert not outdoes(named, pin_from_record(replicate.pin, now=NOW), NOW)
    assert answers(backup_says(stage, again, Verdict.DONE)) == [(C, Verdict.DONE, "s1")]


def test_what_the_backup_refuses_in_vain_is_proposed_again_but_not_at_once(stage: Stage) -> None:
    stage.claimed_by(C, PROPOSAL)
    asked = stage.enter((ME, C), view_id=2)
    named = a_pin("s7", rank=Rank.PROVISIONAL, stamp_ms=7)
    again = backup_says(stage, asked, Verdict.EXISTS, named)
    assert sent(backup_says(stage, again, Verdict.EXISTS, named)) == []
    assert the_replicate(stage.wait(RETRY_S))[1].pin.backend == "s1"


def test_a_backup_without_a_stream_is_not_asked_and_so_holds_nothing(stage: Stage) -> None:
    stage.tell(PeerLost(B))
    assert sent(stage.claimed_by(C, PROPOSAL)) == []
    stage.wait(MAKING_TIMEOUT_S)
    del stage.store[KEY]
    stage.tell(PeerConnected(B, BootId(1)))
    stage.tell(PeerFed(B))
    stage.hear(B, ViewMark(1))
    asked = stage.claimed_by(C, a_proposal(KEY, "s5"), request=10)
    assert the_replicate(asked)[1].pin.backend == "s5"


def test_a_pin_whose_fate_is_unknown_is_proposed_again_for_the_next_claim(stage: Stage) -> None:
    stage.claimed_by(C, PROPOSAL)
    stage.enter((B, C), view_id=2)
    asked = stage.enter(OWNERS, view_id=3) + stage.claimed_by(C, a_proposal(KEY, "s5"), request=10)
    assert the_replicate(asked)[1].pin.backend == "s1"


def test_a_pin_of_the_last_epoch_is_not_moved_for_ever() -> None:
    stage = Stage(owners=(ME,))
    stage.store[KEY] = a_pin("s1", epoch=EPOCH_MAX)
    move = a_proposal(KEY, "s2", moved_from="s1", moved_from_epoch=EPOCH_MAX)
    for request in (1, 2):
        _, _, record = the_answer(stage.claimed_by(B, move, request=request))
        assert record is not None
        assert (record.backend, record.rank) == ("s2", Rank.PROVISIONAL)
    assert stage.store[KEY].backend == "s1"


def test_what_stands_in_for_a_pin_of_the_last_epoch_cannot_be_agreed_on_and_ends() -> None:
    stage = Stage(owners=(ME,))
    stage.store[KEY] = a_pin("s1", epoch=EPOCH_MAX)
    move = a_proposal(KEY, "s2", moved_from="s1", moved_from_epoch=EPOCH_MAX)
    stage.claimed_by(B, move, request=1)
    _, verdict, record = the_answer(stage.claimed_by(C, a_proposal(KEY, "s3"), request=2))
    assert record is not None
    assert (verdict, record.backend, record.rank) == (Verdict.EXISTS, "s1", Rank.QUORATE)


def test_a_pin_that_the_backup_refused_in_the_end_is_forgotten(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    stage.enter((B, C), view_id=2)
    backup_says(stage, asked, Verdict.FENCED)
    stage.enter(OWNERS, view_id=3)
    again = stage.claimed_by(C, a_proposal(KEY, "s5"), request=10)
    assert the_replicate(again)[1].pin.backend == "s5"


def test_a_tombstone_that_the_backup_knows_is_followed_by_a_later_epoch(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    again = backup_says(stage, asked, Verdict.EXISTS, a_pin("", epoch=4))
    _, replicate = the_replicate(again)
    assert (replicate.pin.backend, replicate.pin.epoch) == ("s1", 5)


def test_a_provisional_pin_becomes_agreed_with_its_own_backend(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s7", rank=Rank.PROVISIONAL, stamp_ms=77)
    asked = stage.claimed_by(C, PROPOSAL)
    _, replicate = the_replicate(asked)
    assert (replicate.pin.backend, replicate.pin.rank, replicate.pin.stamp_ms) == (
        "s7",
        Rank.QUORATE,
        77,
    )
    assert answers(backup_says(stage, asked, Verdict.DONE)) == [(C, Verdict.DONE, "s7")]


def test_a_better_pin_that_came_meanwhile_is_the_answer(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    record = record_from_pin(KEY, a_pin("s7", epoch=1), now=NOW)
    stage.hear(B, Delta(BootId(1), 0, 1, (record,)))
    assert answers(backup_says(stage, asked, Verdict.DONE)) == [(C, Verdict.EXISTS, "s7")]


# Moving --------------------------------------------------------------------------------------

MOVE = a_proposal(KEY, "s2", moved_from="s1", moved_from_epoch=3)


def test_a_move_bumps_the_epoch(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s1", epoch=3)
    asked = stage.claimed_by(C, MOVE)
    _, replicate = the_replicate(asked)
    assert (replicate.pin.backend, replicate.pin.epoch) == ("s2", 4)
    assert answers(backup_says(stage, asked, Verdict.DONE)) == [(C, Verdict.DONE, "s2")]


def test_whoever_else_wants_to_move_the_same_pin_gets_the_moved_one(stage: Stage) -> None:
    stage.store[KEY] = a_pin("s1", epoch=3)
    backup_says(stage, stage.claimed_by(C, MOVE), Verdict.DONE)
    late = dataclasses.replace(MOVE, backend="s3")
    assert answers(stage.claimed_by(B, late)) == [(B, Verdict.EXISTS, "s2")]


def test_a_pin_that_only_the_claimer_remembers_is_followed_all_the_same(stage: Stage) -> None:
    _, replicate = the_replicate(stage.claimed_by(C, MOVE))
    assert replicate.pin.epoch == 4


def test_a_minority_moves_nothing(stage: Stage) -> None:
    stage.enter(OWNERS, view_id=2, is_quorate=False)
    stage.store[KEY] = a_pin("s1", epoch=3)
    assert answers(stage.claimed_by(C, MOVE)) == [(C, Verdict.EXISTS, "s1")]


def test_a_minority_never_bumps_an_epoch_not_even_of_what_it_has_forgotten(stage: Stage) -> None:
    stage.enter(OWNERS, view_id=2, is_quorate=False)
    _, replicate = the_replicate(stage.claimed_by(C, MOVE))
    assert (replicate.pin.epoch, replicate.pin.rank) == (3, Rank.MINORITY)


# Views ---------------------------------------------------------------------------------------


def test_who_is_not_home_refuses(stage: Stage) -> None:
    elsewhere = a_proposal(key_held_by(B, C), "s1")
    assert answers(stage.claimed_by(C, elsewhere)) == [(C, Verdict.FENCED, "")]
    assert answers(stage.claimed_by(C, elsewhere, is_hedged=True)) == [(C, Verdict.FENCED, "")]
    assert stage.machine.counters.fenced == 2


def test_no_new_pin_is_made_before_every_owner_has_marked_the_view() -> None:
    stage = Stage(is_marked=False)
    assert stage.claimed_by(C, PROPOSAL) == []
    assert stage.hear(B, ViewMark(1)) == []
    the_replicate(stage.hear(C, ViewMark(1)))


def test_a_parked_claim_is_answered_by_the_pin_that_a_delta_brings() -> None:
    stage = Stage(is_marked=False)
    stage.claimed_by(C, PROPOSAL)
    record = record_from_pin(KEY, a_pin("s7"), now=NOW)
    effects = stage.hear(B, Delta(BootId(1), 0, 1, (record,)))
    assert answers(effects) == [(C, Verdict.EXISTS, "s7")]


def test_a_deposed_home_sends_its_claimers_away_and_ignores_the_late_answer(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    assert answers(stage.enter((B, C), view_id=2)) == [(C, Verdict.FENCED, "")]
    assert backup_says(stage, asked, Verdict.DONE) == []
    assert KEY not in stage.store


def test_a_new_backup_is_asked_when_the_view_changes(stage: Stage) -> None:
    stage.claimed_by(C, PROPOSAL)
    effects = stage.enter((ME, C), view_id=2)
    backup, replicate = the_replicate(effects)
    assert (backup, replicate.view_id) == (C, 2)


def test_a_backup_that_refuses_is_asked_again(stage: Stage) -> None:
    assert backup_says(stage, stage.claimed_by(C, PROPOSAL), Verdict.FENCED) == []
    again = stage.wait(RETRY_S)
    assert answers(backup_says(stage, again, Verdict.DONE)) == [(C, Verdict.DONE, "s1")]


def test_a_backup_with_a_new_stream_is_asked_again(stage: Stage) -> None:
    stage.claimed_by(C, PROPOSAL)
    stage.tell(PeerConnected(B, BootId(1)))
    again = stage.tell(PeerFed(B))
    assert answers(backup_says(stage, again, Verdict.DONE)) == [(C, Verdict.DONE, "s1")]


# Without agreement ---------------------------------------------------------------------------


def test_a_linked_backup_is_waited_for_and_one_without_a_stream_is_not(stage: Stage) -> None:
    stage.claimed_by(C, PROPOSAL)
    assert answers(stage.wait(MAKING_TIMEOUT_S / 2)) == []
    stage.tell(PeerLost(B))
    effects = stage.wait(PATIENCE_DOUBTED_S)
    assert answers(effects) == [(C, Verdict.DONE, "s1")]
    assert announced(effects) == [(KEY, "s1", Rank.PROVISIONAL)]


def test_the_late_word_of_the_backup_makes_the_provisional_pin_an_agreed_one(stage: Stage) -> None:
    asked = stage.claimed_by(C, PROPOSAL)
    stage.tell(PeerLost(B))
    stage.wait(PATIENCE_DOUBTED_S)
    assert announced(backup_says(stage, asked, Verdict.DONE)) == [(KEY, "s1", Rank.QUORATE)]


def test_all_claimers_of_a_key_get_the_same_word_without_agreement(stage: Stage) -> None:
    stage.claimed_by(C, PROPOSAL)
    stage.tell(PeerLost(B))
    stage.wait(PATIENCE_DOUBTED_S)
    effects = stage.claimed_by(C, a_proposal(KEY, "s2"), request=10)
    assert answers(effects) == [(C, Verdict.EXISTS, "s1")]


def test_a_claim_is_answered_before_its_claimer_gives_up() -> None:
    stage = Stage(is_marked=False)
    stage.claimed_by(C, PROPOSAL)
    assert answers(stage.wait(MAKING_TIMEOUT_S)) == [(C, Verdict.DONE, "s1")]
    assert stage.machine.claims_waiting == 0


def test_a_hedged_claim_is_served_by_the_backup_once_the_home_has_no_stream(stage: Stage) -> None:
    key = key_held_by(B, ME)
    assert stage.claimed_by(C, a_proposal(key, "s1"), is_hedged=True) == []
    stage.tell(PeerLost(B))
    effects = stage.wait(PATIENCE_DOUBTED_S)
    assert answers(effects) == [(C, Verdict.DONE, "s1")]
    assert announced(effects) == [(key, "s1", Rank.PROVISIONAL)]
    later = stage.claimed_by(C, a_proposal(key, "s2"), request=10, is_hedged=True)
    assert answers(later) == [(C, Verdict.EXISTS, "s1")]


# Limits --------------------------------------------------------------------------------------


def test_a_claim_beyond_the_limit_is_not_kept_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home_module, "WAITERS_MAX", 1)
    stage.claimed_by(C, PROPOSAL)
    effects = stage.claimed_by(B, PROPOSAL)
    assert answers(effects) == [(B, Verdict.NOT_READY, "")]
    assert stage.machine.counters.overflowed == 1
