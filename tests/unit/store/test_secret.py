"""The secret of a node that stands alone: made once, kept, and never half-written."""

import stat
from pathlib import Path

import pytest

from meshlb.errors import StoreError
from meshlb.store.secret import SECRET_BYTES, own_secret


def test_a_secret_is_made_once_and_stays(tmp_path: Path) -> None:
    made = own_secret(tmp_path)
    assert len(made) == SECRET_BYTES
    assert own_secret(tmp_path) == made


def test_a_secret_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    own_secret(tmp_path)
    (kept,) = tmp_path.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_file_that_is_no_secret_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cookie.secret").write_bytes(b"short")
    with pytest.raises(StoreError, match="remove the file"):
        own_secret(tmp_path)


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cookie"):
        own_secret(tmp_path / "missing")
