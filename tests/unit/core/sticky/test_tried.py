import pytest

from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.core.sticky.tried import TRIED_S, Tried
from meshlb.model import NodeName
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, DictStore, a_key, a_pin

PIN = a_pin("s1", epoch=1, expires_at=NOW + 9_000)


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def tried(store: DictStore) -> Tried:
    name = NodeName("me")
    replica = Replica(store, Standing(name, Barrier(name)), StampClock(), ClaimCounters())
    tried = Tried(replica, pins_max=2)
    tried.ask(a_key(), PIN, 1, NOW)
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
    tried.ask(a_key(), PIN, 1, NOW)
    tried.ask(a_key(), PIN, 2, NOW)
    for request in (1, 2, 2):
        tried.answered(request, is_held=False)
        assert tried.get(a_key(), NOW) == PIN
    tried.answered(1, is_held=False)
    assert tried.get(a_key(), NOW) is None


def test_it_is_not_forgotten_once_a_backup_holds_it(tried: Tried) -> None:
    tried.ask(a_key(), PIN, 2, NOW)
    tried.answered(2, is_held=True)
    tried.answered(1, is_held=False)
    assert tried.get(a_key(), NOW) == PIN


def test_what_a_backup_names_takes_its_place(tried: Tried) -> None:
    named = a_pin("s7", epoch=1, expires_at=NOW + 9_000)
    tried.adopt(a_key(), named, NOW)
    tried.answered(1, is_held=False)
    assert tried.get(a_key(), NOW) == named


def test_the_same_backend_proposed_anew_is_the_same_trial(tried: Tried) -> None:
    tried.ask(a_key(), a_pin("s1", epoch=1, stamp_ms=9, expires_at=NOW + 9_000), 2, NOW)
    tried.answered(2, is_held=False)
    assert tried.get(a_key(), NOW) == PIN


def test_it_is_forgotten_after_a_while(tried: Tried) -> None:
    assert tried.get(a_key(), NOW + TRIED_S) is None
    tried.ask(a_key(1), PIN, 3, NOW)
    tried.ask(a_key(2), PIN, 4, NOW + TRIED_S)
    assert len(tried) == 1
    tried.answered(3, is_held=True)
    assert len(tried) == 1


def test_the_oldest_is_forgotten_when_there_are_too_many(tried: Tried) -> None:
    tried.ask(a_key(2), PIN, 2, NOW)
    tried.ask(a_key(3), PIN, 3, NOW)
    assert tried.get(a_key(), NOW) is None
    assert tried.get(a_key(2), NOW) == PIN
