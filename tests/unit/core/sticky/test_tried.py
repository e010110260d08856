import pytest

from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Life, Standing
from meshlb.core.sticky.tried import TRIED_S, UNANSWERED_MAX, Tried
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import Rank, Verdict
from tests.fakes.pins import NOW, DictStore, a_key, a_pin

PIN = a_pin("s1", epoch=1, expires_at=NOW + 9_000)
B, C = Life(NodeName("b"), BootId(1)), Life(NodeName("c"), BootId(1))


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def tried(store: DictStore) -> Tried:
    name = NodeName("me")
    replica = Replica(store, Standing(name, Barrier(name)), StampClock(), ClaimCounters())
    tried = Tried(replica, pins_max=2)
    tried.ask(a_key(), PIN, 1, B, NOW)
    return tried


def test_a_proposal_is_remembered_until_it_is_settled(tried: Tried) -> None:
    assert tried.get(a_key(), NOW) == PIN
    tried.settle(a_key())
    assert tried.get(a_key(), NOW) is None


@pytest.mark.parametrize("known", [a_pin("s2", epoch=1), a_pin("", epoch=2)])
def test_it_is_settled_by_what_the_table_has_in_its_place(
    tried: Tried, store: DictStore, known: object
) -> None:
    store[a_key()] = known  # type: ignore[assignment]  # a Pin
    assert tried.get(a_key(), NOW) is None
    assert len(tried) == 0


@pytest.mark.parametrize("known", [a_pin("s2"), a_pin("s2", epoch=1, rank=Rank.PROVISIONAL)])
def test_it_is_not_settled_by_less(tried: Tried, store: DictStore, known: object) -> None:
    store[a_key()] = known  # type: ignore[assignment]  # a Pin
    assert tried.get(a_key(), NOW) == PIN


def test_it_is_forgotten_once_all_who_were_asked_have_refused(tried: Tried) -> None:
    tried.ask(a_key(), PIN, 2, C, NOW)
    tried.answered(1, Verdict.FENCED)
    assert tried.get(a_key(), NOW) == PIN
    tried.answered(2, Verdict.NOT_READY)
    assert tried.get(a_key(), NOW) is None


def test_it_is_not_forgotten_once_a_backup_holds_it(tried: Tried) -> None:
    tried.ask(a_key(), PIN, 2, C, NOW)
    tried.answered(2, Verdict.DONE)
    tried.answered(1, Verdict.FENCED)
    assert tried.get(a_key(), NOW) == PIN


def test_who_names_another_pin_holds_nothing_of_what_it_was_asked_before(tried: Tried) -> None:
    """The first request, or the answer to it, was lost with a stream."""
    tried.ask(a_key(), PIN, 2, B, NOW)
    tried.answered(2, Verdict.EXISTS)
    assert tried.get(a_key(), NOW) is None
    assert len(tried) == 0


def test_who_only_refuses_may_have_let_go_of_what_it_was_asked_before(tried: Tried) -> None:
    tried.ask(a_key(), PIN, 2, B, NOW)
    tried.answered(2, Verdict.FENCED)
    assert tried.get(a_key(), NOW) == PIN


def test_a_restarted_backup_does_not_speak_for_its_earlier_life(tried: Tried) -> None:
    tried.ask(a_key(), PIN, 2, B._replace(boot_id=BootId(9)), NOW)
    tried.answered(2, Verdict.EXISTS)
    assert tried.get(a_key(), NOW) == PIN


def test_an_answer_says_nothing_of_a_later_request(tried: Tried) -> None:
    tried.ask(a_key(), PIN, 2, B, NOW)
    tried.answered(1, Verdict.EXISTS)
    assert tried.get(a_key(), NOW) == PIN


def test_what_a_backup_names_takes_the_place_of_nothing(tried: Tried) -> None:
    named = a_pin("s7", epoch=1, expires_at=NOW + 9_000)
    tried.answered(1, Verdict.EXISTS)
    tried.heed(a_key(), named, NOW)
    assert tried.get(a_key(), NOW) == named
    tried.ask(a_key(), named, 2, B, NOW)
    tried.answered(2, Verdict.FENCED)
    assert tried.get(a_key(), NOW) == named


def test_what_a_backup_names_does_not_take_the_place_of_what_was_tried(tried: Tried) -> None:
    """Another backup may hold that; stamped earlier it shows that the named one was heard of."""
    tried.heed(a_key(), a_pin("s7", epoch=1, stamp_ms=7, expires_at=NOW + 9_000), NOW)
    stands = tried.get(a_key(), NOW)
    assert stands is not None
    assert (stands.backend, stands.stamp_ms) == ("s1", 6)
    tried.heed(a_key(), a_pin("s7", epoch=1, stamp_ms=9, expires_at=NOW + 9_000), NOW)
    assert tried.get(a_key(), NOW) == stands


def test_what_a_backup_names_of_a_later_epoch_takes_its_place(tried: Tried) -> None:
    named = a_pin("s7", epoch=2, expires_at=NOW + 9_000)
    tried.heed(a_key(), named, NOW)
    assert tried.get(a_key(), NOW) == named


def test_the_same_backend_proposed_anew_is_the_same_trial(tried: Tried) -> None:
    tried.ask(a_key(), a_pin("s1", epoch=1, stamp_ms=9, expires_at=NOW + 9_000), 2, C, NOW)
    tried.answered(2, Verdict.FENCED)
    assert tried.get(a_key(), NOW) == PIN


def test_proposed_by_a_majority_it_is_not_settled_by_what_a_minority_made(store: DictStore) -> None:
    name = NodeName("me")
    replica = Replica(store, Standing(name, Barrier(name)), StampClock(), ClaimCounters())
    tried = Tried(replica)
    tried.ask(a_key(), a_pin("s1", rank=Rank.MINORITY), 1, B, NOW)
    tried.ask(a_key(), a_pin("s1"), 2, B, NOW)
    store[a_key()] = a_pin("s2", rank=Rank.MINORITY)
    assert tried.get(a_key(), NOW) == a_pin("s1")


def test_too_many_requests_without_an_answer_are_not_all_remembered(tried: Tried) -> None:
    """Who was asked first may hold it for all that is known, whatever the others say."""
    for request in range(2, 2 + UNANSWERED_MAX):
        tried.ask(a_key(), PIN, request, C, NOW)
    tried.answered(1, Verdict.FENCED)
    tried.answered(1 + UNANSWERED_MAX, Verdict.EXISTS)
    assert tried.get(a_key(), NOW) == PIN


def test_it_is_forgotten_after_a_while(tried: Tried) -> None:
    assert tried.get(a_key(), NOW + TRIED_S) is None
    tried.ask(a_key(1), PIN, 3, B, NOW)
    tried.ask(a_key(2), PIN, 4, B, NOW + TRIED_S)
    assert len(tried) == 1
    tried.answered(3, Verdict.DONE)
    assert len(tried) == 1


def test_the_oldest_is_forgotten_when_there_are_too_many(tried: Tried) -> None:
    tried.ask(a_key(2), PIN, 2, B, NOW)
    tried.ask(a_key(3), PIN, 3, B, NOW)
    assert tried.get(a_key(), NOW) is None
    assert tried.get(a_key(2), NOW) == PIN
