from pathlib import Path

import pytest

from meshlb.errors import StoreError
from meshlb.model import BackendName, BackendState, NodeName, PoolName
from meshlb.store.overrides import NAME, OverridesFile
from meshlb.wire.limits import MESSAGES_PER_FRAME_MAX
from meshlb.wire.messages import BackendOverride
from meshlb.wire.seal import cluster_label

SHOP = cluster_label("shop")
LONG = "n" * 63


def words(count: int) -> tuple[BackendOverride, ...]:
    """The longest there are."""
    return tuple(
        BackendOverride(
            PoolName(LONG),
            BackendName(f"{number:063}"),
            BackendState.MAINTENANCE,
            2**48 - 1,
            NodeName(LONG),
        )
        for number in range(count)
    )


@pytest.mark.parametrize("count", [0, 1, MESSAGES_PER_FRAME_MAX])
def test_what_was_saved_is_loaded(tmp_path: Path, count: int) -> None:
    file = OverridesFile(tmp_path, SHOP)
    assert file.load() == ()
    file.save(words(count))
    assert OverridesFile(tmp_path, SHOP).load() == words(count)


def test_without_a_data_dir_nothing_is_kept() -> None:
    file = OverridesFile()
    file.save(words(1))
    assert file.load() == ()


def test_words_of_another_cluster_do_not_count(tmp_path: Path) -> None:
    OverridesFile(tmp_path, cluster_label("staging")).save(words(1))
    assert OverridesFile(tmp_path, SHOP).load() == ()


@pytest.mark.parametrize("cut", [0, 5, 30, -1])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, cut: int) -> None:
    file = OverridesFile(tmp_path, SHOP)
    file.save(words(2))
    path = tmp_path / NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] if cut else b"something else")
    with pytest.raises(StoreError, match=r"damaged .* move it away"):
        file.load()
