from meshlb.core.sticky.makings import Makings, Waiter
from meshlb.core.sticky.pin import Proposal
from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey

KEY = SessionKey(bytes(16))
PROPOSAL = Proposal(KEY, PoolName("app"), BackendName("s1"), KeySource.HEADER, 60.0, None)


def waiter(number: int) -> Waiter:
    return Waiter(NodeName("a"), number, PROPOSAL, is_hedged=False)


def test_the_claims_that_wait_are_counted_and_given_back_once() -> None:
    makings = Makings()
    making = makings.begin(KEY, [waiter(1)], deadline=1.0)
    makings.join(making, waiter(2))
    assert makings.waiting == 2
    assert [each.request for each in makings.release(making)] == [1, 2]
    assert makings.waiting == 0
    assert makings.get(KEY) is making, "it is still being made"
    assert makings.end(making) == []
    assert makings.get(KEY) is None


def test_only_the_latest_request_finds_what_it_was_for() -> None:
    makings = Makings()
    making = makings.begin(KEY, [waiter(1)], deadline=1.0)
    makings.asked(making, 7)
    makings.asked(making, 8)
    assert makings.by_request(7) is None
    assert makings.by_request(8) is making
    makings.end(making)
    assert makings.by_request(8) is None


def test_a_making_is_looked_at_when_it_is_due_and_never_after_its_end() -> None:
    makings = Makings()
    making = makings.begin(KEY, [waiter(1)], deadline=3.0)
    makings.look_at(making, 2.0)
    makings.hasten(making, 1.0)
    assert makings.next_deadline() == 1.0
    assert makings.pop_due(0.5) is None
    assert makings.pop_due(1.0) is making
    makings.look_at(making, 2.0)
    makings.end(making)
    assert makings.pop_due(9.0) is None
    assert makings.next_deadline() is None
