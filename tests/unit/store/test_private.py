import stat
from pathlib import Path

import pytest

from meshlb.errors import StoreError
from meshlb.store.private import read_private, write_private


def test_a_file_is_read_as_it_was_written_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert read_private(path) is None
    write_private(path, b"first")
    write_private(path, b"second")
    assert read_private(path) == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="taken"):
        write_private(tmp_path / "taken", b"x")
    with pytest.raises(StoreError, match="taken"):
        read_private(tmp_path / "taken")
    with pytest.raises(StoreError, match="nowhere"):
        write_private(tmp_path / "nowhere" / "secret", b"x")
