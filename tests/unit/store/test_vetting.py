import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from meshlb.errors import StoreError, UnusableStoreError
from meshlb.store import LmdbPins, vetting, walk
from meshlb.store.vetting import Owner, check_owner, check_pages
from tests.fakes.pins import a_key, a_pin

SHOP = Owner("shop", "lb-1")


def written(directory: Path) -> Path:
    store = LmdbPins(directory)
    store.put(a_key(), a_pin())
    store.close()
    return directory / "data.mdb"


def test_a_store_that_a_node_has_closed_is_not_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.setattr(walk, "__file__", "there-is-no-such-program.py")
    check_pages(tmp_path)
    with pytest.raises(UnusableStoreError):
        check_pages(tmp_path)  # as after a crash: nobody has marked it since


def test_a_store_that_was_changed_since_is_read_through(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[8_192:] = bytes(len(content) - 8_192)
    path.write_bytes(content)
    with pytest.raises(UnusableStoreError, match=r"damaged .* move data\.mdb and lock\.mdb away"):
        LmdbPins(tmp_path)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", signal.SIGBUS.name),
        ("print('page 7 is no page'); raise SystemExit(1)", "page 7 is no page"),
        ("import signal; signal.alarm(1)\nwhile True: pass", signal.SIGALRM.name),
    ],
)
def test_a_store_whose_reading_goes_wrong_is_unusable_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    (tmp_path / "data.mdb").write_bytes(b"x")
    (tmp_path / "walk.py").write_text(program)
    monkeypatch.setattr(walk, "__file__", str(tmp_path / "walk.py"))
    with pytest.raises(UnusableStoreError, match=reason):
        check_pages(tmp_path)


def test_a_killed_node_leaves_no_mark(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from meshlb.store import LmdbPins\n"
        "LmdbPins(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    written(tmp_path)
    assert (tmp_path / "clean").exists()
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert not (tmp_path / "clean").exists()


def test_pins_of_another_cluster_are_not_used_and_both_are_named(tmp_path: Path) -> None:
    written(tmp_path)
    check_owner(tmp_path, SHOP)
    check_owner(tmp_path, SHOP)
    with pytest.raises(UnusableStoreError, match='cluster "shop", and this node is of the cluster'):
        check_owner(tmp_path, Owner("stage", "lb-1"))
    with pytest.raises(UnusableStoreError, match="this node is of a node without a cluster"):
        check_owner(tmp_path, Owner("", "lb-1"))
    (tmp_path / "owner").unlink()
    check_owner(tmp_path, Owner("stage", "lb-1"))


def test_a_renamed_node_keeps_its_pins_and_is_warned(tmp_path: Path) -> None:
    written(tmp_path)
    check_owner(tmp_path, SHOP)
    with structlog.testing.capture_logs() as logs:
        check_owner(tmp_path, Owner("shop", "lb-2"))
        check_owner(tmp_path, Owner("shop", "lb-2"))
    assert [(log["owner"], log["node"]) for log in logs] == [("lb-1", "lb-2")]


def test_a_directory_without_pins_is_anybodys(tmp_path: Path) -> None:
    check_owner(tmp_path, SHOP)
    check_owner(tmp_path, Owner("stage", "lb-9"))


def test_a_note_that_makes_no_sense_is_written_anew(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "owner").write_bytes(b"\xff nonsense")
    check_owner(tmp_path, SHOP)
    assert "shop" in (tmp_path / "owner").read_text()


def test_what_is_put_aside_takes_the_place_of_what_was_before(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        (tmp_path / "data.mdb").write_bytes(content)
        kept = vetting.set_aside(tmp_path)
        assert not (tmp_path / "data.mdb").exists()
        assert kept.read_bytes() == content


def test_a_directory_that_cannot_be_changed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").touch()
    (tmp_path / "data.mdb.unusable").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        vetting.set_aside(tmp_path)
