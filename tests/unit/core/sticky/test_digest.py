from dataclasses import replace

import pytest

from meshlb.core.sticky.digest import (
    Buckets,
    DigestedStore,
    before,
    bucket_of,
    bucket_range,
    live_hash,
    record_hash,
)
from meshlb.core.sticky.merge import tombstone
from meshlb.core.sticky.pin import Pin
from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.limits import BUCKETS
from meshlb.wire.messages import BucketNumber, Rank
from tests.fakes.pins import NOW, DictStore, a_key, a_pin

FIRST, LAST = SessionKey(bytes(16)), SessionKey(b"\xff" * 16)


def page_after(store: DictStore, after: SessionKey | None) -> list[tuple[SessionKey, Pin]]:
    return sorted((key, pin) for key, pin in store.items() if after is None or key > after)[:7]


def whole() -> Buckets:
    buckets = Buckets()
    buckets.count([])
    return buckets


@pytest.mark.parametrize(
    "other",
    [
        {"epoch": 1},
        {"rank": Rank.MINORITY},
        {"stamp_ms": 1_001},
        {"claimer": NodeName("n2")},
        {"backend": BackendName("s2")},
        {"pool": PoolName("other")},
        {"by": KeySource.PATH},
    ],
)
def test_whatever_the_merge_decides_by_changes_the_hash(other: dict[str, object]) -> None:
    pin = a_pin()
    changed = replace(pin, **other)  # type: ignore[arg-type]  # a parametrized field
    assert record_hash(a_key(), changed) != record_hash(a_key(), pin)
    assert record_hash(a_key(2), pin) != record_hash(a_key(), pin)


def test_a_touch_does_not_change_the_hash() -> None:
    pin = a_pin()
    assert record_hash(a_key(), replace(pin, expires_at=NOW + 9.0)) == record_hash(a_key(), pin)


def test_the_buckets_are_ranges_that_cover_all_keys() -> None:
    ranges = [bucket_range(BucketNumber(number)) for number in range(BUCKETS)]
    assert (ranges[0][0], ranges[-1][1]) == (FIRST, LAST)
    assert before(FIRST) is None
    for number, (first, final) in enumerate(ranges):
        assert bucket_of(first) == bucket_of(final) == number
        if number:
            assert before(first) == ranges[number - 1][1]


def test_a_record_that_goes_leaves_no_trace() -> None:
    buckets = whole()
    buckets.replace(a_key(), None, a_pin())
    buckets.replace(a_key(), a_pin(), a_pin("s2"))
    assert buckets.total == record_hash(a_key(), a_pin("s2"))
    buckets.replace(a_key(), a_pin("s2"), None)
    assert buckets.total == 0
    assert not any(buckets.sums())


def test_only_the_bucket_of_a_key_that_differs_differs() -> None:
    one, other = whole(), whole()
    for number in range(50):
        key = a_key(number, slot=number)
        one.replace(key, None, a_pin())
        other.replace(key, None, a_pin("s2" if number == 7 else "s1"))
    assert one.differing(other.sums()) == [bucket_of(a_key(7, slot=7))]
    assert one.differing(one.sums()) == []


def test_what_is_written_while_a_table_is_being_counted_counts_once() -> None:
    store = DictStore()
    store.update({a_key(number, slot=number): a_pin() for number in range(0, 100, 2)})
    digested = DigestedStore(store)
    pages = 0
    while not digested.buckets.is_whole:
        after = digested.buckets.covered
        digested.put(a_key(pages * 3 + 1, slot=pages * 3 + 1), a_pin("new"))
        digested.put(a_key(pages * 8, slot=pages * 8), a_pin("changed", epoch=1))
        digested.buckets.count(page_after(store, after))
        pages += 1
    assert pages > 5
    expected = whole()
    for key, pin in store.items():
        expected.replace(key, None, pin)
    assert digested.buckets.total == expected.total


def test_a_store_reports_its_writes_and_removals() -> None:
    store = DigestedStore(DictStore())
    store.buckets.count([])
    store.put(a_key(), a_pin())
    assert store.get(a_key()) == a_pin()
    assert store.buckets.total == record_hash(a_key(), a_pin())
    store.buckets.replace(a_key(), a_pin(), None)
    assert store.buckets.total == 0


def test_what_has_expired_is_not_part_of_a_live_hash_but_a_tombstone_in_its_grace_is() -> None:
    stone = tombstone(a_pin(), stamp_ms=5, by=NodeName("n"), now=NOW)
    dead: tuple[SessionKey, Pin] = (a_key(1), a_pin(expires_at=NOW))
    assert live_hash([dead, (a_key(2), stone)], NOW) == record_hash(a_key(2), stone)
