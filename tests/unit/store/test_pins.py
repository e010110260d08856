import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from meshlb.core.sticky.digest import DigestedStore, record_hash
from meshlb.core.sticky.lifetime import LINGER_S_MAX
from meshlb.core.sticky.merge import TOMBSTONE_FADES_S
from meshlb.core.sticky.pin import Pin
from meshlb.errors import StoreError
from meshlb.model import SessionKey
from meshlb.store import LmdbPins, sweep
from meshlb.store import pins as pins_module
from meshlb.store.environment import Environment
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, TTL_S, a_key, a_pin


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbPins]:
    store = LmdbPins(tmp_path)
    yield store
    store.close()


def all_keys(store: LmdbPins, *, limit: int) -> list[SessionKey]:
    keys: list[SessionKey] = []
    while page := store.scan(keys[-1] if keys else None, limit):
        assert len(page) <= limit
        keys += [key for key, _ in page]
    return keys


def forget_cache(store: LmdbPins) -> None:
    """Reads come from the disk format from now on."""
    store._hot = type(store._hot)()


def test_a_pin_is_seen_before_and_after_it_is_committed(store: LmdbPins) -> None:
    assert store.get(a_key()) is None
    store.put(a_key(), a_pin())
    assert store.get(a_key()) == a_pin()
    store.commit()
    forget_cache(store)
    assert store.get(a_key()) == a_pin()


def test_the_last_pin_of_a_key_stays(store: LmdbPins) -> None:
    store.put(a_key(), a_pin("s1"))
    store.commit()
    store.put(a_key(), a_pin("s2", epoch=1))
    assert store.get(a_key()) == a_pin("s2", epoch=1)
    store.commit()
    forget_cache(store)
    assert store.get(a_key()) == a_pin("s2", epoch=1)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    store.put(a_key(1), a_pin("s1"))
    store.put(a_key(2), a_pin("s2", claimer="lb-9", ends_at=NOW + 9_000))
    store.put(a_key(3), a_pin(""))
    store.close()
    again = LmdbPins(tmp_path)
    assert again.get(a_key(2)) == a_pin("s2", claimer="lb-9", ends_at=NOW + 9_000)
    assert again.counts() == {("app", "s1"): 1, ("app", "s2"): 1}
    assert len(again) == 2
    again.put(a_key(4), a_pin("s3"))
    again.close()


# Counting and walking ------------------------------------------------------------------------


def test_live_pins_are_counted_per_backend(store: LmdbPins) -> None:
    store.put(a_key(1), a_pin("s1"))
    store.put(a_key(2), a_pin("s1"))
    store.commit()
    store.put(a_key(2), a_pin("s2", epoch=1))
    store.put(a_key(2), a_pin("s2", epoch=1, expires_at=NOW + 9_999))
    assert store.counts() == {("app", "s1"): 1, ("app", "s2"): 1}
    store.put(a_key(1), a_pin("", epoch=1))
    assert store.counts() == {("app", "s2"): 1}


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_walk_meets_every_record_once_and_in_order(store: LmdbPins, limit: int) -> None:
    for number in range(0, 20, 2):
        store.put(a_key(number), a_pin())
    store.commit()
    for number in range(1, 24, 2):
        store.put(a_key(number), a_pin())  # not committed
    assert all_keys(store, limit=limit) == [a_key(n) for n in (*range(20), 21, 23)]


def test_a_walk_sees_what_was_not_committed_in_place_of_what_was(store: LmdbPins) -> None:
    store.put(a_key(), a_pin("s1"))
    store.commit()
    store.put(a_key(), a_pin("s2", epoch=1))
    assert store.scan(None, 10) == [(a_key(), a_pin("s2", epoch=1))]


# Sweeping ------------------------------------------------------------------------------------


def test_an_expired_pin_is_no_longer_counted_and_lingers_before_it_is_removed(
    store: LmdbPins,
) -> None:
    store.put(a_key(), a_pin(expires_at=NOW + 10))
    assert store.sweep(NOW + 9) == 0
    assert store.sweep(NOW + 10) == 1
    assert len(store) == 0
    assert store.get(a_key()) == a_pin(expires_at=NOW + 10)
    assert store.sweep(NOW + 11) == 0
    assert store.sweep(NOW + 10 + LINGER_S_MAX) == 1
    assert store.get(a_key()) is None
    assert len(store) == 0


def test_a_pin_that_is_renewed_while_it_lingers_is_counted_again(store: LmdbPins) -> None:
    store.put(a_key(), a_pin(expires_at=NOW + 10))
    store.sweep(NOW + 10)
    store.put(a_key(), a_pin(expires_at=NOW + TTL_S))
    assert len(store) == 1
    assert store.sweep(NOW + 20) == 0


def test_a_pin_that_was_away_for_long_is_removed_at_once_and_counted_once(
    store: LmdbPins,
) -> None:
    store.put(a_key(), a_pin())
    assert store.sweep(NOW + 10 * TTL_S) == 1
    assert len(store) == 0


def test_a_tombstone_is_removed_when_its_grace_is_over(store: LmdbPins) -> None:
    store.put(a_key(), a_pin("", expires_at=NOW + 10))
    assert store.sweep(NOW + 9) == 0
    assert store.sweep(NOW + 10) == 1
    assert store.get(a_key()) is None


def test_the_last_contact_outlives_the_process(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    assert store.last_contact() is None
    store.note_contact(NOW)
    store.close()
    again = LmdbPins(tmp_path)
    assert again.last_contact() == NOW
    again.close()


def test_the_sums_follow_what_the_sweep_removes_and_nothing_else(store: LmdbPins) -> None:
    digested = DigestedStore(store, store.buckets)
    digested.put(a_key(1), a_pin(expires_at=NOW))
    digested.put(a_key(2), a_pin("", expires_at=NOW))
    digested.put(a_key(3), a_pin())
    store.sweep(NOW)
    kept = record_hash(a_key(1), a_pin()) ^ record_hash(a_key(3), a_pin())
    assert store.buckets.total == kept, "an expired pin lingers"
    store.sweep(NOW + LINGER_S_MAX)
    assert store.buckets.total == record_hash(a_key(3), a_pin())


def test_the_sweep_points_out_live_pins_that_are_not_agreed_on(store: LmdbPins) -> None:
    told: list[SessionKey] = []
    store.on_provisional = told.append
    store.put(a_key(1), a_pin(rank=Rank.PROVISIONAL))
    store.put(a_key(2), a_pin(rank=Rank.PROVISIONAL, expires_at=NOW))
    store.put(a_key(3), a_pin(rank=Rank.MINORITY))
    store.sweep(NOW)
    assert told == [a_key(1)]


def test_the_sweep_tells_of_tombstones_that_fade_and_keeps_those_that_get_more_time(
    store: LmdbPins,
) -> None:
    told: list[SessionKey] = []

    def fading(key: SessionKey, stone: Pin) -> bool:
        told.append(key)
        if key == a_key(1):
            store.put(key, a_pin("", expires_at=NOW + 2 * TOMBSTONE_FADES_S))
        return key == a_key(1)

    store.on_fading = fading
    for number in (1, 2):
        store.put(a_key(number), a_pin("", expires_at=NOW))
    store.put(a_key(3), a_pin("", expires_at=NOW + TOMBSTONE_FADES_S))
    store.put(a_key(4), a_pin("", expires_at=NOW + TOMBSTONE_FADES_S + 1.0))
    store.put(a_key(5), a_pin(expires_at=NOW))
    store.sweep(NOW)
    assert told == [a_key(1), a_key(2), a_key(3)]
    assert all_keys(store, limit=10) == [a_key(1), a_key(3), a_key(4), a_key(5)]


def test_a_sweep_goes_on_where_it_stopped_and_begins_anew_at_the_end(store: LmdbPins) -> None:
    for number in range(10):
        store.put(a_key(number), a_pin(expires_at=NOW + number))
    assert [store.sweep(NOW + 100, limit=4) for _ in range(4)] == [4, 4, 2, 0]


def test_a_step_of_the_sweep_ends_early_where_much_is_dead(
    store: LmdbPins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SWEEP_DEAD_MAX", 3)
    for number in range(7):
        store.put(a_key(number), a_pin(expires_at=NOW))
    late = NOW + 10 * TTL_S
    assert [store.sweep(late) for _ in range(4)] == [3, 3, 1, 0]
    assert all_keys(store, limit=10) == []


# Faults --------------------------------------------------------------------------------------


def refuse_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a full disk does."""

    def full(*_: Any) -> None:
        raise StoreError("cannot write: no space left on device")

    monkeypatch.setattr(Environment, "write", full)


def test_a_node_goes_on_from_memory_when_the_disk_is_full_and_recovers(
    store: LmdbPins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins_module, "RETRY_S", 0.0)
    store.put(a_key(1), a_pin())
    store.commit()
    with monkeypatch.context() as patch:
        refuse_writes(patch)
        store.put(a_key(2), a_pin("s2"))
        store.commit()
        assert store.degraded == "cannot write: no space left on device"
        assert store.get(a_key(1)) == a_pin()
        assert store.get(a_key(2)) == a_pin("s2")
        assert store.sweep(NOW + 10 * TTL_S) == 0
        assert len(store) == 2
    store.commit()
    assert store.degraded is None
    forget_cache(store)
    assert store.get(a_key(2)) == a_pin("s2")


def test_a_node_without_new_pins_notices_too_that_the_disk_has_room_again(
    store: LmdbPins, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse_writes(patch)
        store.note_contact(NOW)
        assert store.degraded is not None
        store.put(a_key(1), a_pin())
        store.commit()
        assert store.unwritten == 1
    store.note_contact(NOW)
    assert store.degraded is not None, "a pin still waits"
    monkeypatch.setattr(pins_module, "RETRY_S", 0.0)
    store._retry_at = 0.0
    store.note_contact(NOW)
    assert (store.degraded, store.unwritten) == (None, 0)


def test_names_that_could_not_be_written_are_written_before_the_pins_that_use_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LmdbPins(tmp_path)
    with monkeypatch.context() as patch:
        refuse_writes(patch)
        store.put(a_key(1), a_pin("new"))
        store.commit()
    store.note_contact(NOW)
    monkeypatch.setattr(pins_module, "RETRY_S", 0.0)
    store._retry_at = 0.0
    store.commit()
    store.close()
    again = LmdbPins(tmp_path)
    assert again.get(a_key(1)) == a_pin("new")
    again.close()


def test_a_sweep_that_cannot_be_written_counts_nothing_twice(
    store: LmdbPins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins_module, "RETRY_S", 0.0)
    store.put(a_key(), a_pin())
    store.commit()
    with monkeypatch.context() as patch:
        refuse_writes(patch)
        store.sweep(NOW + 10 * TTL_S)
        assert len(store) == 1
    store.sweep(NOW + 10 * TTL_S)
    assert (len(store), store.degraded) == (0, None)


def test_memory_stays_bounded_while_the_disk_is_full(
    store: LmdbPins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins_module, "UNWRITTEN_PINS_MAX", 10)
    refuse_writes(monkeypatch)
    for number in range(25):
        store.put(a_key(number), a_pin())
        store.commit()
    assert store.forgotten == 15
    assert len(store) == 10
    assert store.get(a_key(0)) is None
    assert store.get(a_key(24)) == a_pin()
    monkeypatch.undo()


def rewrite(path: Path, table: bytes, change: Callable[[Any, Any], None]) -> None:
    environment = lmdb.open(str(path), max_dbs=8)
    handle = environment.open_db(table)
    with environment.begin(write=True, db=handle) as transaction:
        change(transaction, handle)
    environment.close()


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    LmdbPins(tmp_path).close()
    rewrite(tmp_path, b"meta", lambda transaction, _: transaction.put(b"format", b"3"))
    with pytest.raises(StoreError, match="has format 3 and this program reads 2"):
        LmdbPins(tmp_path)


def test_unreadable_names_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    LmdbPins(tmp_path).close()
    rewrite(tmp_path, b"names", lambda transaction, _: transaction.put(b"\0\0", b"\xff"))
    with pytest.raises(StoreError, match="its names are unreadable"):
        LmdbPins(tmp_path)


def test_a_damaged_pin_is_as_good_as_none(tmp_path: Path) -> None:
    LmdbPins(tmp_path).close()
    rewrite(tmp_path, b"pins", lambda transaction, _: transaction.put(a_key(), b"nonsense"))
    rewrite(tmp_path, b"pins", lambda transaction, _: transaction.put(a_key(2), b"nonsense"))
    store = LmdbPins(tmp_path)
    assert store.get(a_key()) is None
    assert store.scan(None, 10) == []
    store.put(a_key(), a_pin())
    assert store.sweep(NOW) == 1
    store.commit()
    forget_cache(store)
    assert store.get(a_key()) == a_pin()
    store.close()


CHILD = """
import sys
from pathlib import Path
from meshlb.store import LmdbPins
from tests.fakes.pins import a_key, a_pin

store = LmdbPins(Path(sys.argv[1]))
for number in range(1_000_000):
    store.put(a_key(number), a_pin(f"s{number % 7}", claimer=f"lb-{number % 3}"))
    if number % 50 == 49:
        store.commit()
        print(number, flush=True)
"""


def test_every_committed_pin_survives_a_sigkill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) > 3_000:
                break
        os.kill(child.pid, signal.SIGKILL)
        committed = max([int(line), *map(int, child.stdout.read().split())])
    store = LmdbPins(tmp_path)
    for number in range(committed + 1):
        expected = a_pin(f"s{number % 7}", claimer=f"lb-{number % 3}")
        assert store.get(a_key(number)) == expected
    assert len(store) == len(all_keys(store, limit=500)) > committed
    store.close()
