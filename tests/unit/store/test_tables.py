from pathlib import Path

import lmdb
import pytest

from meshlb.errors import UnusableStoreError
from meshlb.store import LmdbPins
from meshlb.store.incoming import Incoming
from meshlb.store.tables import FORMATS_READ
from tests.fakes.pins import a_key, a_pin


def tables_on_disk(folder: Path) -> set[bytes]:
    with lmdb.open(str(folder), max_dbs=8) as environment, environment.begin() as transaction:
        return set(transaction.cursor().iternext(values=False))


def note_format(folder: Path, written: bytes) -> None:
    with lmdb.open(str(folder), max_dbs=8) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as transaction:
            transaction.put(b"format", written, db=meta)


def test_a_store_of_the_format_before_is_read(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    store.put(a_key(), a_pin())
    store.close()
    note_format(tmp_path, FORMATS_READ[0])
    store = LmdbPins(tmp_path)
    assert store.get(a_key()) == a_pin()
    store.close()
    LmdbPins(tmp_path).close()


def test_a_store_of_a_format_to_come_is_refused(tmp_path: Path) -> None:
    LmdbPins(tmp_path).close()
    note_format(tmp_path, b"99")
    with pytest.raises(UnusableStoreError, match="has format 99"):
        LmdbPins(tmp_path)


def test_an_unfinished_copy_is_dropped_at_the_next_start(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    before = tables_on_disk_of(store)
    assert isinstance(store.incoming(), Incoming)
    assert len(tables_on_disk_of(store)) == len(before) + 3
    store.close()
    LmdbPins(tmp_path).close()
    assert tables_on_disk(tmp_path) == before


def tables_on_disk_of(store: LmdbPins) -> set[bytes]:
    with store.environment.lmdb.begin() as transaction:
        return set(transaction.cursor().iternext(values=False))


def test_the_sets_take_turns(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    for number in range(3):
        store.put(a_key(number), a_pin())
        store.commit()
        copy = store.incoming()
        copy.use(None)
        assert store.get(a_key(number)) is None
        store.settle()
    store.close()
    again = LmdbPins(tmp_path)
    assert again.scan(None, 10) == []
    assert len(again) == 0
    again.close()
