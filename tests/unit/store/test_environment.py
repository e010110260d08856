import os
from pathlib import Path

import pytest

from meshlb.errors import StoreError
from meshlb.store import environment as environment_module
from meshlb.store.environment import Environment


def write_many(environment: Environment, count: int, *, size_bytes: int = 1_000) -> None:
    def put(transaction: object) -> None:
        for number in range(count):
            transaction.put(number.to_bytes(8, "big"), bytes(size_bytes))  # type: ignore[attr-defined]  # LMDB has no types

    environment.write(put)


def test_a_missing_data_dir_is_made(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "a" / "b")
    environment.close()
    environment.close()
    assert (tmp_path / "a" / "b" / "data.mdb").is_file()


def test_a_data_dir_belongs_to_one_node_at_a_time(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    with pytest.raises(StoreError, match="in use by another node"):
        Environment(tmp_path)
    environment.close()
    Environment(tmp_path).close()


def test_a_data_dir_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        Environment(tmp_path / "file")


def test_the_map_grows_when_it_is_full(tmp_path: Path) -> None:
    environment = Environment(tmp_path, map_bytes=64 * 1024)
    write_many(environment, 1_000)
    with environment.lmdb.begin() as transaction:
        assert transaction.stat()["entries"] == 1_000
    environment.sync()
    environment.close()


def test_a_map_at_its_limit_is_an_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_module, "MAP_BYTES_MAX", 128 * 1024)
    environment = Environment(tmp_path, map_bytes=64 * 1024)
    with pytest.raises(StoreError, match="has reached"):
        write_many(environment, 1_000)
    with environment.lmdb.begin() as transaction:
        assert transaction.stat()["entries"] == 0
    environment.close()


@pytest.mark.parametrize("content", [b"", b"x" * 10_000, bytes(16_384)])
def test_a_file_that_is_no_store_is_an_error_that_says_what_to_do(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    if not content:  # an empty file is a store that was never written
        Environment(tmp_path).close()
        return
    with pytest.raises(StoreError, match=r"damaged .* move data\.mdb and lock\.mdb away"):
        Environment(tmp_path)


def test_a_store_that_was_cut_short_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    environment = Environment(tmp_path)
    table = environment.lmdb.open_db(b"pins")
    with environment.lmdb.begin(write=True, db=table) as transaction:
        for number in range(1_000):
            transaction.put(number.to_bytes(8, "big"), bytes(1_000))
    environment.close()
    path = tmp_path / "data.mdb"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="damaged"):
        Environment(tmp_path)
