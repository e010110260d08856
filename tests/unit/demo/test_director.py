import os
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.peers.harness.ports import free_port

pytestmark = pytest.mark.peers


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meshlb", "demo", "--port", str(free_port()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def pids(output: str) -> Sequence[int]:
    return [int(pid) for pid in re.findall(r"starts, pid (\d+)", output)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_unattended_demo_kills_a_node_and_loses_no_client() -> None:
    ended = demo("--nodes", "2", "--backends", "2", "--clients", "6", "--seconds", "9")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert "lost without cause    0" in ended.stdout
    assert "died by SIGKILL" in ended.stdout
    assert len(pids(ended.stdout)) == 5, "four children, and one that came back"
    assert not [pid for pid in pids(ended.stdout) if is_running(pid)]


def test_a_demo_can_leave_its_nodes_alone() -> None:
    ended = demo("--nodes", "1", "--backends", "1", "--clients", "0", "--seconds", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SIGKILL" not in ended.stdout
