"""Real nodes whose streams run over mutual TLS."""

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.fakes.certificates import DAY, Authority
from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.mesh import alive
from tests.peers.test_failures import ask_anybody

KEYS = [f"key-{number}" for number in range(300)]


def test_three_nodes_agree_over_mutual_tls_and_a_killed_one_comes_back(
    start_backends: StartBackends, start_mesh: StartMesh, tmp_path: Path
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), authority=Authority(tmp_path))
    first = asyncio.run(ask_anybody(mesh.doors, KEYS))
    assert asyncio.run(ask_anybody(mesh.doors, KEYS)) == first
    mesh.nodes[1].kill()
    wait_until(lambda: len(alive(mesh.nodes[0])) == 2, "the node is dead")
    assert asyncio.run(ask_anybody(mesh.doors, KEYS)) == first
    mesh.start_again([mesh.nodes[1]])
    assert asyncio.run(ask_anybody(mesh.doors, KEYS)) == first
    for node in mesh.nodes:
        assert node.metric("meshlb_pins_total", outcome="conflict") == 0


def test_a_node_whose_certificate_has_expired_stays_outside_and_serves_and_all_say_so(
    start_backends: StartBackends, start_mesh: StartMesh, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    mesh = start_mesh(backends=start_backends("nginx", 3), authority=authority)
    late = mesh.nodes[2]
    assert late.terminate() == 0
    authority.sign(late.name, begins=-2 * DAY, ends=-DAY)
    late.start()
    wait_until(lambda: "certificate expired" in late.output(), "it says so")
    assert "other members refuse this node's certificate" in late.output()
    wait_until(
        lambda: any("has expired" in node.output() for node in mesh.nodes[:2]), "they say so"
    )
    assert alive(mesh.nodes[0]) == {"lb-1", "lb-2"}
    late.terminate()
    authority.sign(late.name)
    mesh.start_again([late])


def test_a_node_without_certificates_is_told_what_it_lacks(
    start_backends: StartBackends, start_mesh: StartMesh, tmp_path: Path
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 2), authority=Authority(tmp_path), size=2)
    plain = mesh.nodes[1]
    assert plain.terminate() == 0
    plain.write_config(replace(mesh.plan, authority=None), mesh.nodes)
    plain.start()
    wait_until(lambda: "tls-required" in plain.output(), "it says so")
    wait_until(lambda: "tls-required" in mesh.nodes[0].output(), "the other one too")
    assert alive(mesh.nodes[0]) == {"lb-1"}
