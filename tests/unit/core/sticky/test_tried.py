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
    tried.add(a_key(), PIN, NOW)
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


def test_it_is_forgotten_after_a_while(tried: Tried) -> None:
    assert tried.get(a_key(), NOW + TRIED_S) is None
    tried.add(a_key(1), PIN, NOW)
    tried.add(a_key(2), PIN, NOW + TRIED_S)
    assert len(tried) == 1


def test_the_oldest_is_forgotten_when_there_are_too_many(tried: Tried) -> None:
    tried.add(a_key(2), PIN, NOW)
    tried.add(a_key(3), PIN, NOW)
    assert tried.get(a_key(), NOW) is None
    assert tried.get(a_key(2), NOW) == PIN
