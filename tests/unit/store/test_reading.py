import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlb.errors import StoreError
from meshlb.store import LmdbPins
from meshlb.store.reading import PinReader
from meshlb.wire.limits import BUCKETS
from tests.fakes.pins import a_key, a_pin


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbPins]:
    store = LmdbPins(tmp_path)
    yield store
    store.close()


@pytest.fixture
def other_process(store: LmdbPins, tmp_path: Path) -> Iterator["OtherProcess"]:
    reader = OtherProcess(tmp_path)
    yield reader
    reader.end()


class OtherProcess:
    """A reader in a process of its own: LMDB opens an environment once a process."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        program = [sys.executable, "-m", "tests.fakes.pin_reader", str(directory), *arguments]
        self.child = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def get(self, key: bytes) -> str:
        """The backend and epoch of the record; `none` where there is none."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(key.hex() + "\n")
        return self.child.stdout.readline().strip()

    def end(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait()


def test_what_is_committed_is_seen_at_once_and_nothing_before(
    store: LmdbPins, other_process: OtherProcess
) -> None:
    assert other_process.get(a_key()) == "none"
    store.put(a_key(), a_pin("s1"))
    assert other_process.get(a_key()) == "none"
    store.commit()
    assert other_process.get(a_key()) == "s1 0"
    store.put(a_key(), a_pin("s2", epoch=1))
    assert other_process.get(a_key()) == "s1 0"
    store.commit()
    assert other_process.get(a_key()) == "s2 1"


def test_what_is_removed_is_gone(store: LmdbPins, other_process: OtherProcess) -> None:
    store.put(a_key(), a_pin("s1"))
    store.commit()
    assert other_process.get(a_key()) == "s1 0"
    assert store.sweep(a_pin().expires_at + 10_000) == 1
    assert other_process.get(a_key()) == "none"


def test_names_that_are_new_since_are_known(store: LmdbPins, other_process: OtherProcess) -> None:
    for number in range(5):
        store.put(a_key(number), a_pin(f"backend-{number}"))
        store.commit()
        assert other_process.get(a_key(number)) == f"backend-{number} 0"


def test_the_table_that_takes_the_place_of_another_is_followed(
    store: LmdbPins, other_process: OtherProcess
) -> None:
    for turn in range(3):  # The third is in the place of the first again.
        store.put(a_key(1), a_pin("s1", epoch=turn))
        store.commit()
        assert other_process.get(a_key(1)) == f"s1 {turn}"
        store.incoming().use([0] * BUCKETS)
        assert other_process.get(a_key(1)) == "none"
        store.settle()
        assert other_process.get(a_key(1)) == "none"


def test_a_map_that_has_grown_meanwhile_is_followed(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path, map_bytes=128 << 10)
    store.put(a_key(), a_pin())
    store.commit()
    other_process = OtherProcess(tmp_path, "--map-bytes", str(128 << 10))
    try:
        assert other_process.get(a_key()) == "s1 0"
        for number in range(20_000):
            store.put(a_key(number), a_pin("s2", epoch=1))
        store.commit()
        assert other_process.get(a_key(19_999)) == "s2 1"
    finally:
        other_process.end()
        store.close()


def test_a_reader_that_is_killed_in_mid_look_up_holds_no_pages(
    store: LmdbPins, tmp_path: Path
) -> None:
    other_process = OtherProcess(tmp_path, "--stops-half-way")
    assert other_process.get(a_key()) == "none"
    pid = str(other_process.child.pid)
    assert pid in store.environment.lmdb.readers()
    other_process.child.kill()
    other_process.end()
    store.environment.free_readers()
    assert pid not in store.environment.lmdb.readers()


def test_nothing_is_held_between_two_look_ups(store: LmdbPins, other_process: OtherProcess) -> None:
    assert other_process.get(a_key()) == "none"
    assert str(other_process.child.pid) not in store.environment.lmdb.readers()


def test_a_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        PinReader(tmp_path / "nothing")


def test_nothing_is_read_again_while_nothing_has_changed(tmp_path: Path) -> None:
    """Shown by a reader whose count of changes does not move: it goes on saying what it knew."""
    store = LmdbPins(tmp_path)
    store.put(a_key(), a_pin("s1"))
    store.commit()
    other_process = OtherProcess(tmp_path, "--count-stands-still")
    try:
        assert other_process.get(a_key()) == "s1 0"
        store.put(a_key(), a_pin("s2", epoch=1))
        store.commit()
        assert other_process.get(a_key()) == "s1 0"
    finally:
        other_process.end()
        store.close()
