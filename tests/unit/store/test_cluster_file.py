import stat
from pathlib import Path

from structlog.testing import capture_logs

from meshlb.store.cluster_file import NO_CLUSTER, ClusterFile
from meshlb.wire.seal import cluster_label

SHOP = cluster_label("shop")


def test_what_was_saved_is_loaded_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    file = ClusterFile(tmp_path, "words", SHOP)
    assert file.load() is None
    file.save(b"content")
    assert ClusterFile(tmp_path, "words", SHOP).load() == b"content"
    assert stat.S_IMODE((tmp_path / "words").stat().st_mode) == 0o600


def test_a_file_of_another_cluster_is_ignored_loudly(tmp_path: Path) -> None:
    ClusterFile(tmp_path, "words", SHOP).save(b"content")
    for label in (cluster_label("staging"), NO_CLUSTER):
        with capture_logs() as lines:
            assert ClusterFile(tmp_path, "words", label).load() is None
        assert [line["log_level"] for line in lines] == ["warning"]


def test_what_is_no_such_file_has_no_content(tmp_path: Path) -> None:
    file = ClusterFile(tmp_path, "words", SHOP)
    (tmp_path / "words").write_bytes(b"meshlb")
    assert file.load() == b""


def test_without_a_data_dir_nothing_is_kept() -> None:
    file = ClusterFile(None, "words", SHOP)
    file.save(b"content")
    assert file.load() is None
