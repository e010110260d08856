import dataclasses

import pytest

from meshlb.core.sticky import replica as replica_module
from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S
from meshlb.core.sticky.pin import EPOCH_MAX, record_from_pin
from meshlb.core.sticky.replica import OVERRIDE_MINORITY_S, OVERRIDE_S, Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import NodeName
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, TTL_S, DictStore, a_key, a_pin, a_proposal

KEY = a_key()


class Table:
    def __init__(self) -> None:
        self.store = DictStore()
        self.standing = Standing(NodeName("me"), Barrier(NodeName("me")), quorate=True)
        self.counters = ClaimCounters()
        self.replica = Replica(self.store, self.standing, StampClock(), self.counters)


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_live_pin_is_found_and_an_expired_one_is_not(table: Table) -> None:
    table.store[KEY] = pin = a_pin()
    assert table.replica.look_up(KEY, NOW) is pin
    assert table.replica.look_up(KEY, NOW + TTL_S) is None
    assert table.replica.record(KEY, NOW + TTL_S) is pin


def test_a_tombstone_is_not_routed_by(table: Table) -> None:
    table.store[KEY] = a_pin("")
    assert table.replica.look_up(KEY, NOW) is None


# Merging -------------------------------------------------------------------------------------


def test_merging_says_whether_the_table_changed(table: Table) -> None:
    assert table.replica.merge(KEY, a_pin(stamp_ms=5), NOW)
    assert not table.replica.merge(KEY, a_pin(stamp_ms=5), NOW)
    assert not table.replica.merge(KEY, a_pin("s2", stamp_ms=6), NOW)
    assert table.replica.merge(KEY, a_pin("s2", stamp_ms=4), NOW)


def test_the_time_that_a_delivery_took_is_no_change(table: Table) -> None:
    table.store[KEY] = mine = a_pin(expires_at=NOW + 100, ends_at=NOW + 200)
    assert not table.replica.merge(KEY, a_pin(expires_at=NOW + 100.09, ends_at=NOW + 200.1), NOW)
    assert table.store[KEY] is mine
    assert table.replica.merge(KEY, a_pin(expires_at=NOW + 100.2, ends_at=NOW + 200), NOW)


def test_a_live_pin_takes_the_place_of_a_dead_one_whatever_their_epochs(table: Table) -> None:
    table.store[KEY] = a_pin("s1", epoch=5, expires_at=NOW - 1)
    assert table.replica.merge(KEY, a_pin("s2", epoch=0), NOW)
    assert table.store[KEY].backend == "s2"


def test_a_dead_pin_does_not_come_back_over_a_live_one(table: Table) -> None:
    table.store[KEY] = live = a_pin("s2", epoch=0)
    dead = a_pin("s1", epoch=5, stamp_ms=1, expires_at=NOW - 1)
    assert not table.replica.merge(KEY, dead, NOW)
    assert table.store[KEY] is live


def test_an_unpinned_key_stays_unpinned_when_an_old_copy_arrives(table: Table) -> None:
    table.store[KEY] = pin = a_pin(epoch=2)
    stone = table.replica.unpin(KEY, NOW)
    assert stone is not None
    late = record_from_pin(KEY, pin, now=NOW + TOMBSTONE_GRACE_S)
    table.replica.merge_record(dataclasses.replace(late, expires_in_ms=999_000), NOW + 100)
    assert table.store[KEY] == stone
    assert table.replica.look_up(KEY, NOW + 100) is None


def test_a_conflict_and_a_move_are_counted(table: Table) -> None:
    table.replica.merge(KEY, a_pin("s1", stamp_ms=5), NOW)
    table.replica.merge(KEY, a_pin("s2", epoch=1), NOW)
    assert (table.counters.conflicts, table.counters.moved) == (0, 1)
    table.replica.merge(KEY, a_pin("s3", epoch=1, stamp_ms=9_999), NOW)
    assert (table.counters.conflicts, table.counters.moved) == (1, 1)


def test_a_record_that_no_honest_member_sends_is_refused_and_counted(table: Table) -> None:
    record = record_from_pin(KEY, a_pin(), now=NOW)
    assert not table.replica.merge_record(dataclasses.replace(record, epoch=EPOCH_MAX + 1), NOW)
    assert table.counters.refused == 1
    assert KEY not in table.store


def test_what_is_planted_after_a_merge_is_stamped_later(table: Table) -> None:
    stamp_ms = round(NOW * 1_000) + 500
    table.replica.merge_record(record_from_pin(KEY, a_pin(stamp_ms=stamp_ms), now=NOW), NOW)
    pin, _ = table.replica.plant(a_proposal(a_key(2)), epoch=0, now=NOW)
    assert pin.stamp_ms > stamp_ms


# Planting, touching, unpinning ---------------------------------------------------------------


def test_a_planted_pin_is_there_at_once(table: Table) -> None:
    pin, is_new = table.replica.plant(a_proposal(KEY, "s3", max_age_s=5_000.0), epoch=2, now=NOW)
    assert is_new
    assert table.replica.look_up(KEY, NOW) == pin
    assert (pin.backend, pin.epoch, pin.rank, pin.claimer) == ("s3", 2, Rank.QUORATE, "me")
    assert (pin.expires_at, pin.ends_at) == (NOW + TTL_S, NOW + 5_000)


def test_planting_yields_to_what_is_at_least_as_new(table: Table) -> None:
    table.store[KEY] = known = a_pin("s1", epoch=2)
    assert table.replica.plant(a_proposal(KEY, "s3"), epoch=2, now=NOW) == (known, False)
    assert table.replica.plant(a_proposal(KEY, "s3"), epoch=3, now=NOW)[1]


def test_planting_does_not_bring_back_what_was_unpinned(table: Table) -> None:
    table.store[KEY] = a_pin("s1")
    table.replica.unpin(KEY, NOW)
    pin, is_new = table.replica.plant(a_proposal(KEY), epoch=0, now=NOW)
    assert pin.is_tombstone
    assert not is_new


def test_planting_in_a_minority_ranks_lower(table: Table) -> None:
    table.standing.quorate = False
    assert table.replica.plant(a_proposal(KEY), epoch=0, now=NOW)[0].rank is Rank.MINORITY


def test_a_touch_slides_the_expiry_once_a_quarter_of_the_ttl_has_passed(table: Table) -> None:
    table.store[KEY] = pin = a_pin()
    assert table.replica.touch(KEY, pin, TTL_S, NOW + 100) is None
    touched = table.replica.touch(KEY, pin, TTL_S, NOW + TTL_S / 4)
    assert touched is not None
    assert touched.expires_at == NOW + TTL_S * 1.25
    assert table.store[KEY] == touched


def test_a_touch_of_a_pin_that_has_moved_meanwhile_changes_nothing(table: Table) -> None:
    table.store[KEY] = moved = a_pin("s2", epoch=1)
    assert table.replica.touch(KEY, a_pin("s1"), TTL_S, NOW + TTL_S / 2) is None
    assert table.store[KEY] is moved


def test_only_a_live_pin_can_be_unpinned(table: Table) -> None:
    assert table.replica.unpin(KEY, NOW) is None
    table.store[KEY] = a_pin()
    assert table.replica.unpin(KEY, NOW) is not None
    assert table.replica.unpin(KEY, NOW) is None


# Overrides -----------------------------------------------------------------------------------


def overridden(table: Table) -> None:
    table.store[KEY] = a_pin("s1", epoch=1)
    table.replica.override(KEY, a_pin("s2", epoch=2, rank=Rank.PROVISIONAL), NOW)


def test_an_override_is_routed_by_and_leaves_the_table_alone(table: Table) -> None:
    overridden(table)
    pin = table.replica.look_up(KEY, NOW)
    assert pin is not None
    assert pin.backend == "s2"
    assert table.replica.record(KEY, NOW) == pin
    assert table.replica.stored(KEY) == a_pin("s1", epoch=1)


@pytest.mark.parametrize(
    ("is_quorate", "lasts_s"), [(True, OVERRIDE_S), (False, OVERRIDE_MINORITY_S)]
)
def test_an_override_ends_by_itself(table: Table, is_quorate: bool, lasts_s: float) -> None:
    table.standing.quorate = is_quorate
    overridden(table)
    just_before, after = (table.replica.look_up(KEY, NOW + lasts_s + d) for d in (-0.1, 0.0))
    assert just_before is not None
    assert just_before.backend == "s2"
    assert after is not None
    assert after.backend == "s1"


def test_an_override_ends_when_the_pin_moves(table: Table) -> None:
    overridden(table)
    table.replica.merge(KEY, a_pin("s3", epoch=2), NOW)
    pin = table.replica.look_up(KEY, NOW)
    assert pin is not None
    assert pin.backend == "s3"


def test_an_override_outlasts_news_of_the_pin_it_overrides(table: Table) -> None:
    overridden(table)
    table.replica.merge(KEY, a_pin("s1", epoch=1, expires_at=NOW + 9_000), NOW)
    pin = table.replica.look_up(KEY, NOW)
    assert pin is not None
    assert pin.backend == "s2"


def test_overrides_end_together_when_the_majority_is_back(table: Table) -> None:
    overridden(table)
    table.replica.end_overrides()
    assert table.replica.record(KEY, NOW) == a_pin("s1", epoch=1)


def test_overrides_are_bounded(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "OVERRIDES_MAX", 2)
    for number in range(3):
        table.replica.override(a_key(number), a_pin("s2"), NOW)
    assert table.replica.look_up(a_key(0), NOW) is None
    assert table.replica.look_up(a_key(1), NOW) is not None
