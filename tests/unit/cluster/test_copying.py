"""A copy from one store to another, with the real stores and no streams."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshlb.cluster import copying
from meshlb.cluster.copying import Receiver, Sender
from meshlb.core.sticky.digest import DigestedStore
from meshlb.core.sticky.pin import Pin
from meshlb.errors import StoreError, WireError
from meshlb.model import SessionKey
from meshlb.store import LmdbPins
from meshlb.store import pins as pins_module
from meshlb.wire.runs import PackedPins, TableRun
from tests.fakes.pins import NOW, a_key, a_pin

Open = Callable[[str], LmdbPins]


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens stores by name, the same again after a close; runs are of 7 records."""
    monkeypatch.setattr(pins_module, "RUN_PINS_MAX", 7)
    monkeypatch.setattr(copying, "REPLAY_PINS", 3)
    opened: list[LmdbPins] = []

    def open_store(name: str) -> LmdbPins:
        opened.append(LmdbPins(tmp_path / name))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def spread(number: int) -> SessionKey:
    """Keys in many buckets, two or three in each."""
    return a_key(number, slot=4 * (number // 3))


def put(store: LmdbPins, records: dict[SessionKey, Pin]) -> None:
    digested = DigestedStore(store, store.buckets)
    for key, pin in records.items():
        digested.put(key, pin)
    store.commit()


def runs_of(store: LmdbPins) -> Iterator[TableRun]:
    sender = Sender(store, 1)
    while True:
        run = sender.next_run(stamp_ms=1, now=NOW)
        assert run is not None
        yield run
        if run.last:
            return


class Taken:
    """The receiver of a store, whose merge keeps what was there."""

    def __init__(self, store: LmdbPins) -> None:
        self.merged: dict[SessionKey, Pin] = {}
        self.digested = DigestedStore(store, store.buckets)
        self.receiver = Receiver(store, merge=self._merge)

    def _merge(self, key: SessionKey, pin: Pin, now: float) -> None:
        self.merged[key] = pin
        self.digested.put(key, pin)

    def replay(self) -> int:
        turns = 1
        while not self.receiver.replay(NOW):
            turns += 1
        return turns


def table(store: LmdbPins) -> dict[SessionKey, Pin]:
    return dict(store.scan(None, 10_000))


def test_an_empty_store_becomes_a_copy_with_counts_and_sums(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin(f"s{n % 3}") for n in range(100)})
    put(giver, {spread(5): a_pin("", epoch=1), spread(7): a_pin(ends_at=NOW + 5.0, epoch=1)})
    taken = Taken(taker)
    runs = list(runs_of(giver))
    assert len(runs) > 10
    for run in runs:
        assert table(taker) == {}, "half a copy is no table"
        taken.receiver.take(run, NOW)
    taken.replay()
    assert table(taker) == table(giver)
    assert taker.counts() == giver.counts()
    assert taker.buckets.is_whole
    assert taker.buckets.sums() == giver.buckets.sums()


def test_a_copy_is_there_after_a_restart(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(20)})
    taken = Taken(taker)
    for run in runs_of(giver):
        taken.receiver.take(run, NOW)
    taken.replay()
    taker.close()
    again = stores("taker")
    assert table(again) == table(giver)
    assert again.counts() == giver.counts()
    assert again.buckets.sums() == giver.buckets.sums()
    assert not again.has_replaced


def test_a_node_that_stops_in_the_middle_of_a_copy_has_the_table_that_it_had(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(30)})
    put(taker, {spread(99): a_pin("own")})
    taken = Taken(taker)
    for run in list(runs_of(giver))[:-1]:
        taken.receiver.take(run, NOW)
    taker.close()
    again = stores("taker")
    assert table(again) == {spread(99): a_pin("own")}
    assert again.counts() == {("app", "own"): 1}
    taken = Taken(again)  # what the first one has left behind is no hindrance
    for run in runs_of(giver):
        taken.receiver.take(run, NOW)
    taken.replay()
    assert table(again).keys() == table(giver).keys() | {spread(99)}


def test_what_arrives_during_a_copy_is_merged_into_it(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(40)})
    taken = Taken(taker)
    for number, run in enumerate(runs_of(giver)):
        put(taker, {spread(3 * number): a_pin("newer", epoch=1), spread(50 + number): a_pin()})
        assert taker.get(spread(50 + number)) == a_pin()
        taken.receiver.take(run, NOW)
    assert taken.replay() > 1, "a part a turn"
    assert taker.get(spread(0)) == taker.get(spread(3)) == a_pin("newer", epoch=1)
    assert taker.get(spread(50)) == a_pin()
    assert len(table(taker)) > 40


def test_a_replay_goes_on_after_a_restart(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(20)})
    put(taker, {spread(100 + n): a_pin("own") for n in range(20)})
    taken = Taken(taker)
    for run in runs_of(giver):
        taken.receiver.take(run, NOW)
    assert not taken.receiver.replay(NOW)
    taker.close()
    again = stores("taker")
    assert again.has_replaced
    taken = Taken(again)
    assert taken.receiver.is_replaying
    taken.replay()
    assert not again.has_replaced
    assert len(table(again)) == 40


def test_only_what_the_copy_lacks_or_ends_earlier_is_merged(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(10)})
    put(taker, {spread(n): a_pin(expires_at=NOW + 1.0) for n in range(10)})
    put(taker, {spread(4): a_pin(expires_at=NOW + 9_999.0), spread(60): a_pin()})
    taken = Taken(taker)
    for run in runs_of(giver):
        taken.receiver.take(run, NOW)
    taken.replay()
    assert taken.merged.keys() == {spread(4), spread(60)}


def test_lifetimes_are_told_by_the_receivers_clock(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin(expires_at=NOW + n - 3) for n in range(13)})
    put(giver, {spread(20): a_pin(expires_at=NOW + 9.0, ends_at=NOW + 10.0)})
    ahead_s = 7_200.0
    taken = Taken(taker)
    for run in runs_of(giver):
        taken.receiver.take(run, NOW + ahead_s)
    for number in range(13):
        pin = taker.get(spread(number))
        assert pin is not None
        assert pin.expires_at == NOW + ahead_s + number - 3
    pin = taker.get(spread(20))
    assert pin is not None
    assert (pin.expires_at, pin.ends_at) == (NOW + ahead_s + 9.0, NOW + ahead_s + 10.0)


def test_names_are_told_by_the_receivers_numbers(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(taker, {spread(200): a_pin("s9", pool="other", claimer="n9")})
    put(giver, {spread(n): a_pin(f"s{n}", pool=f"p{n % 2}", claimer=f"n{n}") for n in range(9)})
    taken = Taken(taker)
    for run in runs_of(giver):
        taken.receiver.take(run, NOW)
    taken.replay()
    assert table(taker) == table(giver) | {spread(200): a_pin("s9", pool="other", claimer="n9")}
    assert taker.counts() == giver.counts() | {("other", "s9"): 1}


def test_more_names_than_a_run_holds_go_ahead(
    stores: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "RUN_NAMES_MAX", 4)
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin(f"s{n}") for n in range(11)})
    taken = Taken(taker)
    for run in runs_of(giver):
        assert len(run.names) <= 4
        taken.receiver.take(run, NOW)
    taken.replay()
    assert table(taker) == table(giver)


def test_what_is_written_between_two_runs_leaves_copy_and_sums_in_step(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(60)})
    taken = Taken(taker)
    for number, run in enumerate(runs_of(giver)):
        taken.receiver.take(run, NOW)
        put(giver, {spread(7 * number): a_pin("moved", epoch=1)})
    counted = DigestedStore(taker)
    counted.buckets.count(taker.scan(None, 1_000))
    counted.buckets.count([])
    assert taker.buckets.sums() == counted.buckets.sums()


def test_a_bucket_that_fits_no_run_leaves_the_sums_to_be_counted(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {a_key(n): a_pin() for n in range(20)})
    taken = Taken(taker)
    for run in runs_of(giver):
        taken.receiver.take(run, NOW)
    taken.replay()
    assert table(taker) == table(giver)
    assert not taker.buckets.is_whole


def test_a_giver_that_writes_to_memory_only_gives_no_copy(
    stores: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    giver = stores("giver")
    sender = Sender(giver, 1)
    giver.put(a_key(), a_pin())
    assert sender.next_run(stamp_ms=1, now=NOW) is None


def test_a_bad_run_changes_nothing_and_the_copy_can_be_abandoned(stores: Open) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(20)})
    put(taker, {spread(99): a_pin("own")})
    taken = Taken(taker)
    first, second, *_ = runs_of(giver)
    taken.receiver.take(first, NOW)
    flags_gone = PackedPins(second.records[:38] + b"\xff" + second.records[39:])
    with pytest.raises(WireError):
        taken.receiver.take(replace(second, records=flags_gone), NOW)
    with pytest.raises(WireError, match="ascending"):
        taken.receiver.take(first, NOW)
    taken.receiver.abandon()
    assert table(taker) == {spread(99): a_pin("own")}
    put(taker, {spread(98): a_pin("own")})
    assert len(taker) == 2


def test_a_full_disk_ends_a_copy_and_not_the_table(
    stores: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    giver, taker = stores("giver"), stores("taker")
    put(giver, {spread(n): a_pin() for n in range(20)})
    put(taker, {spread(99): a_pin("own")})
    taken = Taken(taker)
    first, second, *_ = runs_of(giver)
    taken.receiver.take(first, NOW)

    def refuse(action: object) -> None:
        raise StoreError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(taker.environment, "write", refuse)
        with pytest.raises(StoreError):
            taken.receiver.take(second, NOW)
        taken.receiver.abandon()
    put(taker, {spread(98): a_pin("own")})
    assert table(taker).keys() == {spread(98), spread(99)}
    assert taker.degraded is None
