"""What a supervisor hears."""

import os
import socket
from pathlib import Path

import pytest

from meshlb.node.supervisor import PLACE, tell_ready, tell_stopping


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_supervisor_hears_when_a_node_serves_and_when_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = str(tmp_path / "n") if kind == "path" else f"@meshlb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + place[1:] if kind == "abstract" else place)
        monkeypatch.setenv(PLACE, place)
        tell_ready()
        tell_stopping()
        assert heard.recv(100) == f"READY=1\nMAINPID={os.getpid()}".encode()
        assert heard.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("place", [None, "", "nonsense", "/nowhere/at/all"])
def test_nobody_who_listens_is_no_fault(monkeypatch: pytest.MonkeyPatch, place: str | None) -> None:
    monkeypatch.delenv(PLACE, raising=False)
    if place is not None:
        monkeypatch.setenv(PLACE, place)
    tell_ready()
    tell_stopping()
