import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from meshlb.core.keyring import KeyBook
from meshlb.errors import StoreError
from meshlb.model import ClusterSecret, NodeName
from meshlb.store.keyring import NAME, KeyringFile
from meshlb.wire.seal import cluster_label

SHOP = cluster_label("shop")
STATE = (
    KeyBook.of((b"o" * 32,))
    .install(ClusterSecret(b"n" * 32), by=NodeName("a"), wall_ms=1)
    .serve(wall_ms=2)
    .state()
)


def test_what_was_saved_is_loaded_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    file = KeyringFile(tmp_path, SHOP)
    assert file.load() is None
    file.save(STATE)
    assert KeyringFile(tmp_path, SHOP).load() == STATE
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_without_a_data_dir_nothing_is_kept() -> None:
    file = KeyringFile(None, SHOP)
    file.save(STATE)
    assert file.load() is None


def test_the_keyring_of_another_cluster_is_ignored_loudly(tmp_path: Path) -> None:
    KeyringFile(tmp_path, cluster_label("staging")).save(STATE)
    with capture_logs() as lines:
        assert KeyringFile(tmp_path, SHOP).load() is None
    assert [line["log_level"] for line in lines] == ["warning"]


@pytest.mark.parametrize("cut", [0, 5, 20, 60, -1])
def test_a_damaged_keyring_says_what_to_do(tmp_path: Path, cut: int) -> None:
    file = KeyringFile(tmp_path, SHOP)
    file.save(STATE)
    path = tmp_path / NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] if cut else b"something else")
    with pytest.raises(StoreError, match=r"damaged .* move it away"):
        file.load()
