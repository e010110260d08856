"""The laws of the merge, and that replicas agree whatever the order of deliveries."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.homes import SLOTS, Homes
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S, merge, tombstone
from meshlb.core.sticky.pin import NEVER, Pin
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import KeySource, NodeName
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, DictStore, a_key, a_pin

# Few values for each field, so that ties are frequent.
lifetimes = st.tuples(
    st.sampled_from([NOW + 10, NOW + 20, NOW + 30]),
    st.sampled_from([NOW + 15, NOW + 25, NEVER]),
).map(lambda times: {"expires_at": min(times), "ends_at": times[1]})


@st.composite
def pins(draw: st.DrawFn) -> Pin:
    return a_pin(
        draw(st.sampled_from(["", "s1", "s2"])),
        pool=draw(st.sampled_from(["app", "api"])),
        by=draw(st.sampled_from([KeySource.HEADER, KeySource.COOKIE])),
        epoch=draw(st.integers(0, 2)),
        rank=draw(st.sampled_from(Rank)),
        stamp_ms=draw(st.integers(1, 3)),
        claimer=draw(st.sampled_from(["n1", "n2"])),
        **draw(lifetimes),
    )


@given(pins(), pins())
def test_merging_is_commutative(one: Pin, other: Pin) -> None:
    assert merge(one, other) == merge(other, one)


@given(pins(), pins(), pins())
def test_merging_is_associative(one: Pin, two: Pin, three: Pin) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(pins(), pins())
def test_merging_is_idempotent(one: Pin, other: Pin) -> None:
    merged = merge(one, other)
    assert merge(merged, one) is merged
    assert merge(merged, other) is merged
    assert merge(one, one) is one


@given(pins(), pins())
def test_no_pin_expires_after_its_end(one: Pin, other: Pin) -> None:
    merged = merge(one, other)
    assert merged.expires_at <= merged.ends_at


def replica() -> tuple[Replica, DictStore]:
    store, name = DictStore(), NodeName("me")
    return Replica(store, Standing(name, Barrier(name)), StampClock(), ClaimCounters()), store


@given(st.lists(pins(), min_size=1, max_size=4))
@settings(max_examples=50)
def test_replicas_agree_in_any_order_of_deliveries(told: list[Pin]) -> None:
    tables = []
    for order in itertools.permutations(told):
        table, store = replica()
        for pin in (*order, order[0]):
            table.merge(a_key(), pin, NOW)
        tables.append(dict(store))
    assert all(table == tables[0] for table in tables)


@given(pins().filter(lambda pin: bool(pin.backend)), st.lists(st.integers(0, 40), max_size=6))
def test_no_delivery_of_an_old_copy_brings_an_unpinned_key_back(
    pin: Pin, delays_s: list[int]
) -> None:
    table, _ = replica()
    table.merge(a_key(), pin, NOW)
    table.unpin(a_key(), NOW)
    now = NOW
    for delay_s in delays_s:
        now += delay_s
        assert now < NOW + TOMBSTONE_GRACE_S
        table.merge(a_key(), pin, now)
        assert table.look_up(a_key(), now) is None


@given(pins(), st.integers(0, 100))
def test_a_tombstone_beats_whatever_it_was_made_for(pin: Pin, stamp_ms: int) -> None:
    stone = tombstone(pin, stamp_ms=stamp_ms, by=NodeName("n1"), now=NOW)
    assert merge(pin, stone) is stone


@given(
    st.sets(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=12),
    st.from_regex(r"[A-Z]{1,8}", fullmatch=True),
    st.integers(0, SLOTS - 1),
)
def test_one_change_of_the_owners_moves_a_slot_as_little_as_it_can(
    owners: set[str], newcomer: str, slot: int
) -> None:
    """Read forwards `newcomer` joins, read backwards it goes."""
    without = Homes(map(NodeName, owners)).slot_holders(slot)
    with_newcomer = Homes(map(NodeName, {*owners, newcomer})).slot_holders(slot)
    if with_newcomer[0] == newcomer:
        assert with_newcomer[1] == without[0]
    elif with_newcomer[1] == newcomer:
        assert with_newcomer[0] == without[0]
    else:
        assert with_newcomer == without
