from pathlib import Path

import pytest
import structlog

from meshlb.errors import StoreError, UnusableStoreError
from meshlb.store import Owner, open_pins
from tests.fakes.pins import a_key, a_pin

SHOP = Owner("shop", "lb-1")


def damaged(directory: Path) -> bytes:
    store = open_pins(directory, SHOP, on_unusable="stop")
    store.put(a_key(), a_pin())
    store.close()
    path = directory / "data.mdb"
    content = bytearray(path.read_bytes())
    content[8_192:] = b"\x55" * (len(content) - 8_192)
    path.write_bytes(content)
    return bytes(content)


def test_a_damaged_store_stops_the_start_and_is_left_as_it_was(tmp_path: Path) -> None:
    content = damaged(tmp_path)
    with pytest.raises(UnusableStoreError, match="damaged"):
        open_pins(tmp_path, SHOP, on_unusable="stop")
    assert (tmp_path / "data.mdb").read_bytes() == content


def test_a_damaged_store_is_put_aside_where_the_operator_wants_that_and_it_is_said_loudly(
    tmp_path: Path,
) -> None:
    content = damaged(tmp_path)
    with structlog.testing.capture_logs() as logs:
        store = open_pins(tmp_path, SHOP, on_unusable="empty")
    assert len(store) == 0
    store.close()
    assert (tmp_path / "data.mdb.unusable").read_bytes() == content
    (log,) = [log for log in logs if log["log_level"] == "error"]
    assert "damaged" in log["reason"]
    open_pins(tmp_path, SHOP, on_unusable="stop").close()


def test_pins_of_another_cluster_are_put_aside_likewise(tmp_path: Path) -> None:
    store = open_pins(tmp_path, SHOP, on_unusable="stop")
    store.put(a_key(), a_pin())
    store.close()
    stage = Owner("stage", "lb-1")
    with pytest.raises(UnusableStoreError, match='the cluster "shop"'):
        open_pins(tmp_path, stage, on_unusable="stop")
    store = open_pins(tmp_path, stage, on_unusable="empty")
    assert store.get(a_key()) is None
    store.close()


def test_a_store_in_use_is_not_put_aside(tmp_path: Path) -> None:
    store = open_pins(tmp_path, SHOP, on_unusable="stop")
    with pytest.raises(StoreError, match="in use"):
        open_pins(tmp_path, SHOP, on_unusable="empty")
    store.close()
