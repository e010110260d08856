"""Real nodes of this version and of the code that spoke version 1, restarted into one another."""

import asyncio
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.native import of_the_source
from tests.peers.conftest import StartBackends
from tests.peers.harness.child import REPOSITORY, wait_until
from tests.peers.harness.mesh import Mesh, Node, Plan, new_secret
from tests.peers.test_failures import ask_anybody

VERSION_1 = "a22c41b2eff7fbdd070eaa9bd258b391ebdc5413"
"""The last commit before version 2 of the protocol began."""

KEYS = [f"key-{number}" for number in range(200)]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The code of version 1, out of the history of this repository."""
    archive = subprocess.run(
        ["git", "archive", VERSION_1, "meshlb"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip("the history of this checkout does not go back to version 1")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(tmp_path / "before", filter="data")
    return tmp_path / "before"


@of_the_source
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_cluster_goes_over_to_the_other_version_node_by_node_and_moves_no_pin(
    direction: str, before: Path, start_backends: StartBackends, tmp_path: Path
) -> None:
    plan = Plan(backends=start_backends("nginx", 3), secret=new_secret(), on_unusable_store="")
    mesh = Mesh(tmp_path, plan)
    first, then = (before, REPOSITORY) if direction == "up" else (REPOSITORY, before)
    for node in mesh.nodes:
        node.cwd = first
    mesh.start()
    at_first = asyncio.run(ask_anybody(mesh.doors, KEYS))
    for node in mesh.nodes:
        assert node.terminate() == 0
        node.cwd = then
        if then == before:
            _leave_the_store_aside(node)
        mesh.start_again([node])
        new = [f"{node.name}-{number}" for number in range(100)]
        once, again = (asyncio.run(ask_anybody(mesh.doors, new)) for _ in range(2))
        assert once == again
        assert asyncio.run(ask_anybody(mesh.doors, KEYS)) == at_first
        for other in mesh.nodes:
            if other.cwd == REPOSITORY:
                is_mixed = any(each.cwd == before for each in mesh.nodes)
                assert other.status()["protocol"] == (1 if is_mixed else 2)
    wait_until(lambda: len({frozenset(node.pins().items()) for node in mesh.nodes}) == 1, "equal")
    for node in mesh.nodes:
        assert node.metric("meshlb_pins_total", outcome="conflict") == 0
        assert _refused_as_messages(node) == 0, node.output()


def _leave_the_store_aside(node: Node) -> None:
    """Code of before cannot read the store, and says that these files are to be moved away."""
    for name in ("data.mdb", "lock.mdb"):
        (node.folder / "state" / name).rename(node.folder / name)


def _refused_as_messages(node: Node) -> float:
    return node.metric("meshlb_datagrams_refused_total", reason="messages")
