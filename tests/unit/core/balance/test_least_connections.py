"""Room for more."""

from meshlb.core.balance.least_connections import LeastConnections
from tests.fakes.candidates import candidates


def test_the_one_with_room_for_its_weight_is_chosen():
    a, b = candidates(a=3, b=1)
    a.load, b.load = 5, 2
    assert LeastConnections().choose([a, b]) is a
    a.load = 7
    assert LeastConnections().choose([a, b]) is b


def test_connections_that_last_are_shared_by_weight():
    chooser = LeastConnections()
    among = candidates(a=3, b=2, c=1)
    for _ in range(60):
        chosen = chooser.choose(among)
        assert chosen is not None
        chosen.load += 1
    assert [candidate.load for candidate in among] == [30, 20, 10]
