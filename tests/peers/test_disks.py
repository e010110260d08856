"""Disks that are full, damaged, somebody else's, or not to be written."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.backends import require
from tests.peers.harness.child import wait_until
from tests.peers.harness.disk import SmallDisk
from tests.peers.harness.mesh import HEADER, Mesh, Node, Plan, new_secret
from tests.peers.test_agreement import ask_everybody
from tests.peers.test_failures import ask_anybody

PAGE_BYTES = 4_096


def keys(word: str, count: int) -> list[str]:
    return [f"{word}-{number}" for number in range(count)]


def test_a_node_whose_disk_is_full_serves_says_so_and_loses_nothing_that_was_confirmed(
    tmp_path: Path, start_backends: StartBackends
) -> None:
    plan = Plan(backends=start_backends("nginx", 3), sticky=[HEADER], secret=new_secret())
    mesh = Mesh(tmp_path, plan)
    full = mesh.nodes[0]
    disk = SmallDisk(full.folder / "state", size="4m")
    disk.use(full)
    mesh.start()
    expected = asyncio.run(ask_anybody(mesh.ports, keys("before", 300)))
    assert full.status()["store"]["written"]

    disk.fill()
    during = asyncio.run(ask_everybody(mesh.ports, keys("during", 600), per_node=1))
    assert all(len(backends) == 1 for backends in during.values())
    expected |= {key: backend for key, (backend,) in during.items()}
    store = full.status()["store"]
    assert not store["written"]
    assert ", 0 bytes free" in store["reason"]
    assert store["waiting"] > 0
    assert full.metric("meshlb_store_written") == 0
    assert "the stick table is in memory alone" in full.output()
    assert full.is_ready, "its clients are served as well as ever"
    assert all(node.metric("meshlb_store_written") == 1 for node in mesh.nodes[1:])
    status, answer = full.ask(
        "/v1/pools/app/backends/s1/state", method="PUT", body={"state": "draining"}
    )
    assert status == 200, answer

    # What it held in memory alone is gone with it, and comes back from the others.
    full.kill()
    full.start()
    mesh.wait_ready()
    assert asyncio.run(ask_anybody([full.port], list(expected))) == expected

    disk.free()
    wait_until(
        lambda: (
            full.status()["store"] == {"written": True, "reason": "", "waiting": 0, "forgotten": 0}
        ),
        "the pins are on the disk",
    )
    for node in mesh.nodes:
        node.kill()
    for node in mesh.nodes[1:]:
        (node.folder / "state" / "data.mdb").unlink()
    mesh.start()
    assert asyncio.run(ask_anybody(mesh.ports, list(expected))) == expected


def overwrite(data: Path, content: Callable[[int], bytes]) -> None:
    """Put something else in the place of all pages but the first two, which tell of the trees."""
    size = data.stat().st_size
    with data.open("r+b") as file:
        file.seek(2 * PAGE_BYTES)
        file.write(content(size - 2 * PAGE_BYTES))


def cut_short(data: Path) -> None:
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "zeroed": lambda data: overwrite(data, bytes),
    "random bytes": lambda data: overwrite(data, random.randbytes),
    "cut short": cut_short,
}


def test_a_damaged_store_is_a_clear_error_or_an_empty_start_if_so_configured(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER], size=2)
    expected = asyncio.run(ask_anybody(mesh.ports, keys("key", 400)))
    victim = mesh.nodes[0]
    data = victim.folder / "state" / "data.mdb"
    victim.kill()
    sound = data.read_bytes()

    for what, damage in DAMAGES.items():
        data.write_bytes(sound)
        damage(data)
        damaged = data.read_bytes()
        said = refused_start(victim)
        assert "damaged" in said, what
        assert "move data.mdb and lock.mdb away" in said, what
        assert len(data.read_bytes()) >= len(damaged), "it is left to be looked at"

    victim.write_config(replace(mesh.plan, on_unusable_store="empty"), mesh.nodes)
    victim.start()
    mesh.wait_ready()
    assert "this node starts without its pins" in victim.output()
    assert data.with_name("data.mdb.unusable").exists()
    assert asyncio.run(ask_anybody([victim.port], list(expected))) == expected


def refused_start(node: Node) -> str:
    """Start a node that must end with status 1 and one line; returns that line."""
    before = len(node.output())
    node.start()
    assert node.wait() == 1
    said = node.output()[before:].strip()
    assert len(said.splitlines()) == 1, said
    assert "Traceback" not in said
    return said


def test_a_store_of_another_cluster_or_one_that_cannot_be_used_is_a_clear_error(
    tmp_path: Path, start_backends: StartBackends
) -> None:
    plan = Plan(backends=start_backends("nginx", 1), sticky=[HEADER], secret=new_secret())
    node = Node("lb-1", tmp_path / "lb-1")
    state = node.folder / "state"
    node.write_config(plan, [])
    node.start()
    wait_until(lambda: node.is_ready, "ready")
    before = asyncio.run(ask_anybody([node.port], keys("key", 20)))
    assert node.terminate() == 0

    node.write_config(replace(plan, cluster="another"), [])
    assert 'of the cluster "test", and this node is of the cluster "another"' in refused_start(node)

    # Another name of a node is no reason to lose its pins, but may be a copied directory.
    renamed = Node("lb-9", node.folder)
    renamed.write_config(plan, [])
    renamed.start()
    wait_until(lambda: renamed.is_ready, "ready under another name")
    assert "a data_dir must not be shared" in renamed.output()
    assert asyncio.run(ask_anybody([renamed.port], list(before))) == before
    node.write_config(plan, [])
    assert "in use by another node" in refused_start(node)
    assert renamed.terminate() == 0

    require("setpriv")
    # Root may open everything, unless it has laid that down.
    renamed.start_by("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    for path in (state / "data.mdb", state):
        mode = path.stat().st_mode
        path.chmod(0o000)
        assert "Permission denied" in refused_start(renamed)
        path.chmod(mode)
