from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.fallback import (
    SETTLE_BATCH_MAX,
    SETTLE_EVERY_S,
    SETTLE_FOR_OTHERS_LOOKS,
    SETTLE_LOOKS_MAX,
    UNSETTLED_MAX,
    Fallback,
)
from meshlb.core.sticky.homes import Homes
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import NodeName
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, DictStore, a_key, a_pin

ME, OTHER = NodeName("me"), NodeName("other")


class World:
    """A fallback with a table; by its view, `OTHER` is home of every key."""

    def __init__(self) -> None:
        self.table = DictStore()
        standing, counters = Standing(ME, Barrier(ME)), ClaimCounters()
        standing.homes = Homes((OTHER,))
        stamps = StampClock()
        replica = Replica(self.table, standing, stamps, counters)
        self.fallback = Fallback(standing, replica, stamps, counters)

    def unsettle(self, count: int, *, claimer: NodeName) -> None:
        for number in range(count):
            pin = a_pin(rank=Rank.PROVISIONAL, claimer=claimer, expires_at=NOW + 1e6)
            self.table[a_key(number)] = pin
            self.fallback.unsettle(a_key(number), NOW)

    def settle(self, round_number: int) -> int:
        """How many are claimed again in the so many-th round."""
        return len(self.fallback.due(NOW + round_number * SETTLE_EVERY_S))


def test_a_round_claims_a_bounded_number_again_and_the_next_one_goes_on() -> None:
    world = World()
    world.unsettle(SETTLE_BATCH_MAX + 10, claimer=ME)
    first = {key for key, _ in world.fallback.due(NOW + SETTLE_EVERY_S)}
    second = {key for key, _ in world.fallback.due(NOW + 2 * SETTLE_EVERY_S)}
    assert len(first) == len(second) == SETTLE_BATCH_MAX
    assert len(first | second) == SETTLE_BATCH_MAX + 10


def test_a_round_looks_at_a_bounded_number_of_those_that_others_settle() -> None:
    world = World()
    world.unsettle(SETTLE_LOOKS_MAX + 1, claimer=OTHER)
    last = a_key(SETTLE_LOOKS_MAX)
    world.table[last] = a_pin(rank=Rank.PROVISIONAL, claimer=ME, expires_at=NOW + 1e6)
    assert [world.settle(number) for number in (1, 2)] == [0, 1]


def test_anybody_settles_what_was_looked_at_often_enough() -> None:
    world = World()
    world.unsettle(1, claimer=OTHER)
    rounds = range(1, SETTLE_FOR_OTHERS_LOOKS + 2)
    assert [world.settle(number) for number in rounds] == [0] * SETTLE_FOR_OTHERS_LOOKS + [1]


def test_what_is_to_be_settled_is_bounded_and_the_oldest_makes_room() -> None:
    world = World()
    for number in range(UNSETTLED_MAX + 1):
        world.fallback.unsettle(a_key(number), NOW)
    assert len(world.fallback._unsettled) == UNSETTLED_MAX
    assert a_key(0) not in world.fallback._unsettled


def test_what_is_agreed_on_or_over_is_forgotten() -> None:
    world = World()
    world.unsettle(2, claimer=ME)
    world.table[a_key(0)] = a_pin()
    world.table[a_key(1)] = a_pin(rank=Rank.PROVISIONAL, expires_at=NOW)
    assert world.settle(1) == 0
    assert world.fallback.next_deadline() is None
