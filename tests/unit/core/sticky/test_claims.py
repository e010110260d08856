import dataclasses
from typing import Any

import pytest

from meshlb.core.sticky.events import PeerConnected, PeerFed, PeerLost, Stored, TablesMet
from meshlb.core.sticky.pin import EPOCH_MAX, ClaimOutcome, record_from_pin
from meshlb.core.sticky.proposals import claim_from_proposal
from meshlb.model import BackendName, BootId, NodeName
from meshlb.wire.messages import Delta, PullChunk, Rank, Verdict, ViewMark
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
from tests.fakes.pins import NOW, a_key, a_pin, a_proposal


def test_a_node_claims_at_itself_without_a_message_leaving_it() -> None:
    stage = Stage()
    effects = stage.start(a_proposal(key_held_by(ME, B)))
    assert [peer for peer, _ in sent(effects)] == [B]
    the_replicate(effects)


def test_an_owner_alone_needs_no_message_at_all() -> None:
    stage = Stage(owners=(ME,))
    done, stored = sorted(
        stage.start(a_proposal(a_key())), key=lambda effect: type(effect).__name__
    )
    assert the_done([done]).outcome is ClaimOutcome.NEW
    assert isinstance(stored, Stored)


def test_every_peer_with_a_stream_is_sent_the_mark_of_a_new_view() -> None:
    stage = Stage()
    marks = sent(stage.enter((ME, B), view_id=2, is_marked=False))
    assert marks == [(B, ViewMark(2)), (C, ViewMark(2))]


def test_a_peer_is_sent_the_mark_once_it_has_what_it_lacked() -> None:
    stage, late = Stage(), NodeName("node-d")
    assert stage.tell(PeerConnected(late, BootId(1))) == []
    assert late not in [peer for peer, _ in sent(stage.enter(OWNERS, view_id=2))]
    assert sent(stage.tell(PeerFed(late))) == [(late, ViewMark(2))]


def test_a_peer_whose_table_may_differ_is_sent_no_mark_until_the_tables_have_met() -> None:
    stage = Stage()
    assert stage.tell(PeerConnected(C, BootId(1), is_apart=True)) == []
    assert stage.tell(PeerFed(C)) == []
    assert sent(stage.enter(OWNERS, view_id=2)) == [(B, ViewMark(2))]
    assert sent(stage.tell(TablesMet(C))) == [(C, ViewMark(2))]
    assert stage.tell(TablesMet(C)) == [], "and it is told once"


def test_tables_that_met_before_all_was_sent_hasten_no_mark() -> None:
    stage = Stage()
    stage.tell(PeerConnected(C, BootId(1), is_apart=True))
    assert stage.tell(TablesMet(C)) == []
    assert sent(stage.tell(PeerFed(C))) == [(C, ViewMark(1))]


def test_a_peer_without_a_stream_is_sent_no_mark() -> None:
    stage = Stage()
    stage.tell(PeerLost(C))
    assert sent(stage.enter((ME, B), view_id=2, is_marked=False)) == [(B, ViewMark(2))]


def test_a_new_stream_voids_the_peers_mark_until_it_marks_again() -> None:
    stage = Stage()
    assert stage.machine.barrier_missing == frozenset()
    stage.tell(PeerConnected(B, BootId(1)))
    assert stage.machine.barrier_missing == {B}
    stage.hear(B, ViewMark(1))
    assert stage.machine.barrier_missing == frozenset()


def test_the_late_word_of_a_peer_that_left_the_view_is_repeated() -> None:
    stage = Stage()
    delta = Delta(BootId(1), 0, 1, (record_from_pin(a_key(), a_pin("s7"), now=NOW),))
    stage.enter((ME, C), view_id=2)
    assert announced(stage.hear(B, delta)) == [(a_key(), "s7", Rank.QUORATE)]
    stage.now += 100  # so the lifetime that arrives is longer
    assert announced(stage.hear(B, delta)) == []


def test_the_word_of_an_owner_or_of_one_who_is_yet_to_join_is_not_repeated() -> None:
    stage, newcomer = Stage(), NodeName("new")
    stage.tell(PeerConnected(newcomer, BootId(1)))
    stage.tell(PeerFed(newcomer))
    stage.enter((ME, B), view_id=2)
    for number, peer in enumerate((B, newcomer)):
        record = record_from_pin(a_key(number), a_pin("s7"), now=NOW)
        assert announced(stage.hear(peer, Delta(BootId(1), 0, 1, (record,)))) == []


def test_pins_that_are_pulled_enter_the_table() -> None:
    stage = Stage()
    record = record_from_pin(a_key(), a_pin("s7"), now=NOW)
    assert stage.hear(B, PullChunk(1, (record,), last=True)) == []
    assert stage.store[a_key()].backend == "s7"


def test_claims_under_way_are_counted() -> None:
    stage = Stage()
    stage.start(a_proposal(key_held_by(B, C)))
    stage.claimed_by(C, a_proposal(key_held_by(ME, B)))
    assert stage.machine.claims_waiting == 2


def test_an_idle_machine_needs_no_timer() -> None:
    assert Stage().machine.next_deadline() is None


def test_a_record_without_time_left_begins_no_new_life_here() -> None:
    """Else an expired pin would linger anew wherever a table is pulled, and be renewed."""
    stage, key = Stage(), a_key()
    stage.store[key] = expired = a_pin("s1", expires_at=NOW - 100.0)
    over = record_from_pin(key, expired, now=NOW)
    assert over.expires_in_ms == 0
    assert stage.hear(B, PullChunk(1, (over,), last=True)) == []
    assert stage.store[key] is expired
    other = record_from_pin(a_key(2), expired, now=NOW)
    stage.hear(B, Delta(BootId(1), 0, 1, (other,)))
    assert a_key(2) not in stage.store


def test_who_is_about_to_leave_tells_first_and_then_holds_and_makes_nothing() -> None:
    stage = Stage()
    held, mine = key_held_by(B, ME), key_held_by(ME, B)
    stage.asked_to_hold(B, held, a_pin("s1"))
    told = stage.machine.leave(stage.now)
    assert announced(told) == [(held, "s1", Rank.QUORATE)]
    assert not any(isinstance(message, ViewMark) for _, message in sent(told))
    for effects in (
        stage.asked_to_hold(B, key_held_by(B, ME, nth=1), a_pin("s1")),
        stage.claimed_by(C, a_proposal(mine, "s1")),
    ):
        assert the_answer(effects)[1] is Verdict.FENCED


@pytest.mark.parametrize(
    "spoilt", [{"backend": BackendName("")}, {"ttl_ms": 0}, {"moved_from_epoch": EPOCH_MAX + 1}]
)
def test_a_claim_that_no_member_makes_is_ignored_and_counted(spoilt: dict[str, Any]) -> None:
    stage, proposal = Stage(), a_proposal(key_held_by(ME, B), "s1")
    claim = claim_from_proposal(proposal, request=9, is_hedged=False)
    assert stage.hear(C, dataclasses.replace(claim, **spoilt)) == []
    assert stage.machine.counters.refused == 1
