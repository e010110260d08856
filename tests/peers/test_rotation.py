"""The cluster's secret changes under real nodes, and no client notices."""

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import PYTHON, wait_until
from tests.peers.harness.http import fetch
from tests.peers.harness.mesh import COOKIE, HEADER, Mesh, Node, new_secret
from tests.peers.test_failures import ask_anybody

KEYS = [f"key-{number}" for number in range(300)]
CLIENTS = 30


def order(node: Node, *arguments: str, secret: str = "") -> subprocess.CompletedProcess[str]:
    """Run `meshlb keys`; a secret goes in by stdin."""
    argv = [PYTHON, "-m", "meshlb", "keys", *arguments]
    argv += ["--admin", f"http://127.0.0.1:{node.admin_port}"]
    return subprocess.run(argv, input=secret, capture_output=True, text=True, check=False)


def listed(node: Node) -> dict[str, dict[str, str]]:
    """What each member does with each secret, as this node knows it."""
    keys: list[dict[str, Any]] = node.ask("/v1/keys")[1]["keys"]
    return {key["id"]: key["members"] for key in keys}


def rotate(mesh: Mesh, secret: str) -> tuple[str, str]:
    """Each step at another node; returns the ids of the old secret and of the new one."""
    one, two = mesh.nodes[:2]
    (old,) = listed(one)
    installed = order(one, "install", "-", secret=secret)
    assert installed.returncode == 0, installed.stderr
    (new,) = set(listed(two)) - {old}
    assert all(f"{node.name} holds {new}" in installed.stdout for node in mesh.nodes)
    early = order(two, "remove", old)
    assert early.returncode == 1
    assert f"seals with the secret {old}" in early.stderr
    assert order(two, "use", new).returncode == 0
    return old, new


async def cookies_of(mesh: Mesh, cookies: Sequence[str]) -> list[tuple[str, str]]:
    """The cookie that each client holds after one more request, and the backend it got."""
    after = []
    for number in range(CLIENTS):
        held = cookies[number] if cookies else ""
        port = mesh.ports[number % len(mesh.ports)]
        response = await fetch(port, fields={"Cookie": held} if held else {})
        assert response.status == 200
        after.append((response.cookie or held, response.backend))
    return after


def test_a_rotation_keeps_every_client_also_when_all_nodes_are_killed_after_it(
    start_backends: StartBackends, start_mesh: StartMesh, tmp_path: Path
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER, COOKIE])
    before = asyncio.run(ask_anybody(mesh.ports, KEYS))
    first = asyncio.run(cookies_of(mesh, []))
    secret = new_secret()

    old, new = rotate(mesh, secret)
    assert set(listed(mesh.nodes[0])[new].values()) == {"sealing"}
    second = asyncio.run(cookies_of(mesh, [cookie for cookie, _ in first]))
    assert [backend for _, backend in second] == [backend for _, backend in first]
    assert all(one[0] != other[0] for one, other in zip(first, second, strict=True))

    removed = order(mesh.nodes[2], "remove", old)
    assert removed.returncode == 0, removed.stderr
    for node in mesh.nodes:
        wait_until(lambda node=node: set(listed(node)) == {new}, f"{node.name} has forgotten")
    assert asyncio.run(cookies_of(mesh, [cookie for cookie, _ in second])) == second
    assert asyncio.run(ask_anybody(mesh.ports, KEYS)) == before

    # Their configurations still name the old secret, and nothing else.
    for node in mesh.nodes:
        node.kill()
    mesh.start()
    assert asyncio.run(ask_anybody(mesh.ports, KEYS)) == before
    assert asyncio.run(cookies_of(mesh, [cookie for cookie, _ in second])) == second
    assert not any(node.metric("meshlb_pins_total", outcome="new") for node in mesh.nodes)

    newcomer = join(mesh, "lb-4", secret, tmp_path)
    wait_until(lambda: newcomer.is_ready, "a node with the new secret alone is ready")
    assert asyncio.run(ask_anybody([newcomer.port], KEYS)) == before

    stranger = join(mesh, "lb-5", mesh.plan.secret, tmp_path)
    wait_until(lambda: "other-secret" in stranger.output(), "the refusal is in its log")
    assert not stranger.is_ready
    for node in (*mesh.nodes, newcomer, stranger):
        assert secret not in node.output()
        assert mesh.plan.secret not in node.output()


def join(mesh: Mesh, name: str, secret: str, folder: Path) -> Node:
    """Start a node that the mesh did not have, with one secret in its configuration."""
    node = Node(name, folder / name)
    node.write_config(replace(mesh.plan, secret=secret), mesh.nodes)
    node.start()
    return node
