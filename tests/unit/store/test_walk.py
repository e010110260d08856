"""The walk runs in a process of its own here too: a damaged store may end it."""

import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from meshlb.store import walk

PAGE_BYTES = 4_096


def filled(directory: Path) -> Path:
    environment = lmdb.open(str(directory), max_dbs=8, map_size=2**26, sync=False)
    table = environment.open_db(b"pins")
    with environment.begin(write=True, db=table) as transaction:
        for number in range(5_000):
            transaction.put(number.to_bytes(16, "big"), bytes(40))
    environment.close()
    return directory / "data.mdb"


def walked(directory: Path) -> int:
    command = [sys.executable, "-I", walk.__file__, str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_a_sound_store_is_read_to_its_end(tmp_path: Path) -> None:
    filled(tmp_path)
    assert walked(tmp_path) == 0
    walk.walk(tmp_path)


def test_a_file_that_lost_only_pages_that_nobody_needs_is_sound(tmp_path: Path) -> None:
    path = filled(tmp_path)
    environment = lmdb.open(str(tmp_path), max_dbs=8, map_size=2**26)
    table = environment.open_db(b"pins")
    with environment.begin(write=True) as transaction:
        transaction.drop(table, delete=False)
    for number in range(3):  # these move to the first of the pages that are free now
        with environment.begin(write=True, db=table) as transaction:
            transaction.put(number.to_bytes(16, "big"), bytes(40))
    environment.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 20 * PAGE_BYTES)
    assert walked(tmp_path) == 0


@pytest.mark.parametrize("how", ["zeroed", "random", "cut short"])
def test_a_damaged_store_is_noticed_however_it_ends_the_walk(tmp_path: Path, how: str) -> None:
    path = filled(tmp_path)
    content = bytearray(path.read_bytes())
    damage = random.Random(5).randbytes(len(content)) if how == "random" else bytes(len(content))
    if how == "cut short":
        content = content[: len(content) // 2]
    else:
        # The meta pages, which tell where the trees begin, stay as they are.
        content[2 * PAGE_BYTES :] = damage[2 * PAGE_BYTES :]
    path.write_bytes(content)
    assert walked(tmp_path) != 0
