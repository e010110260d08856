from pathlib import Path

import lmdb
import pytest

from meshlb.core.sticky.digest import Buckets, DigestedStore
from meshlb.errors import StoreError
from meshlb.store import LmdbPins
from meshlb.store import sums as sums_module
from tests.fakes.pins import NOW, a_key, a_pin


def put(store: LmdbPins, *numbers: int, backend: str = "s1") -> None:
    digested = DigestedStore(store, store.buckets)
    for number in numbers:
        digested.put(a_key(number, slot=number), a_pin(backend))
    store.commit()


def counted(store: LmdbPins) -> Buckets:
    buckets = Buckets()
    buckets.count(store.scan(None, 10_000))
    buckets.count([])
    return buckets


def reopened(store: LmdbPins, folder: Path) -> LmdbPins:
    store.close()
    return LmdbPins(folder)


def test_an_empty_store_knows_its_sums(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    assert store.buckets.is_whole
    assert store.buckets.total == 0
    store.close()


def test_the_sums_are_known_after_a_restart(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    put(store, 1, 2, 3)
    put(store, 2, backend="s2")
    store = reopened(store, tmp_path)
    assert store.buckets.is_whole
    assert store.buckets.sums() == counted(store).sums()
    put(store, 9)
    store.sweep(NOW + 10_000.0)
    store = reopened(store, tmp_path)
    assert store.buckets.total == 0
    store.close()


def test_many_changes_become_a_new_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_module, "CHANGES_MAX", 10)
    store = LmdbPins(tmp_path)
    rows = []
    for number in range(30):
        put(store, number, number + 1)
        with store.environment.lmdb.begin() as transaction:
            rows.append(transaction.stat(store._tables._sums_table)["entries"])
    assert max(rows) == 11, "a base, and ten commits of one change"
    store = reopened(store, tmp_path)
    assert store.buckets.sums() == counted(store).sums()
    store.close()


def test_a_store_without_sums_does_not_know_them_until_they_are_counted(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    put(store, 1, 2)
    store.close()
    with lmdb.open(str(tmp_path), max_dbs=8) as environment:
        table = environment.open_db(b"sums")
        with environment.begin(write=True) as transaction:
            transaction.drop(table, delete=False)
    store = LmdbPins(tmp_path)
    assert not store.buckets.is_whole
    put(store, 3)
    store = reopened(store, tmp_path)
    assert not store.buckets.is_whole
    store.buckets.count(store.scan(None, 100))
    store.buckets.count([])
    put(store, 4)
    store = reopened(store, tmp_path)
    assert store.buckets.is_whole
    assert store.buckets.sums() == counted(store).sums()
    store.close()


def test_what_could_not_be_written_is_not_taken_for_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LmdbPins(tmp_path)
    put(store, 1)

    def refuse(action: object) -> None:
        raise StoreError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store.environment, "write", refuse)
        put(store, 2, 3)
    assert store.degraded
    monkeypatch.setattr(store, "_retry_at", 0.0)
    put(store, 4)
    store = reopened(store, tmp_path)
    assert store.buckets.sums() == counted(store).sums()
    assert len(store) == 4
    store.close()
