import socket
from pathlib import Path

import pytest

from meshlb.config import load
from meshlb.demo.ports import Ports, is_free
from meshlb.demo.stage import build
from meshlb.errors import ListenError


def test_every_node_gets_a_good_configuration_of_its_own(tmp_path: Path) -> None:
    stage = build(tmp_path, nodes=3, backends=2, port=18_080)
    settings = [load(tmp_path / f"{node.name}.toml") for node in stage.nodes]
    for taken in (
        {str(each.listeners[0].bind) for each in settings},
        {str(each.admin.bind) for each in settings},
        {str(each.cluster.bind) for each in settings if each.cluster},
    ):
        assert len(taken) == 3
    (secret,) = {each.cluster.secrets for each in settings if each.cluster}
    assert len(secret) == 1
    assert [child.name for child in stage.children] == ["lb-1", "lb-2", "lb-3", "s1", "s2"]


def test_a_configuration_with_a_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    build(tmp_path, nodes=1, backends=1, port=18_080)
    assert (tmp_path / "lb-1.toml").stat().st_mode & 0o077 == 0


def test_a_port_in_use_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert Ports().take(port) > port


def test_no_port_is_given_twice() -> None:
    ports = Ports()
    first = ports.take(18_080)
    assert ports.take(first) > first


def test_running_out_of_ports_is_said() -> None:
    with pytest.raises(ListenError, match="no free port"):
        Ports().take(65_536)
