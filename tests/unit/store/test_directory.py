"""A temporary directory ends with the last process of its node, and with no other."""

import tempfile
from pathlib import Path

import pytest

from meshlb.errors import StoreError
from meshlb.store.directory import StoreDirectory


def test_a_configured_one_stays(tmp_path: Path) -> None:
    directory = StoreDirectory(tmp_path)
    assert directory.path == tmp_path
    directory.close()
    assert tmp_path.is_dir()


def test_a_temporary_one_ends_with_its_process() -> None:
    directory = StoreDirectory(None)
    (directory.path / "file").touch()
    directory.close()
    assert not directory.path.exists()
    directory.close()


def test_one_that_is_inherited_and_not_owned_is_the_other_process_s_to_remove() -> None:
    first = StoreDirectory(None)
    second = StoreDirectory(None, inherited=first.path)
    assert second.path == first.path
    second.close()
    assert first.path.is_dir()
    first.close()
    assert not first.path.exists()


def test_one_that_was_handed_over_is_the_next_process_s_to_remove() -> None:
    first = StoreDirectory(None)
    second = StoreDirectory(None, inherited=first.path)
    second.own()
    first.hand_over()
    first.close()
    assert second.path.is_dir()
    second.close()
    assert not second.path.exists()


def test_where_none_can_be_made_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StoreError, match=r"set node\.data_dir"):
        StoreDirectory(None)
