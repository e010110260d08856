"""Nodes whose wall clocks are an hour wrong, or jump: nothing that matters goes by them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.peers.conftest import StartBackends
from tests.peers.harness.clock import FakeClock
from tests.peers.harness.http import Door, fetch
from tests.peers.harness.mesh import COOKIE, HEADER, Mesh, Plan, new_secret
from tests.peers.harness.views import assert_one_answer_each, states_seen, total, wait_agreed
from tests.peers.test_agreement import ask_everybody

HOUR_S = 3_600.0
CLIENTS = 30


def keys(word: str, count: int) -> list[str]:
    return [f"{word}-{number}" for number in range(count)]


async def visit(doors: Sequence[Door], cookies: Sequence[str]) -> list[tuple[str, str]]:
    """One request of each client at each node in turn: its backend, and the cookie it holds."""
    after = []
    for held in cookies:
        for door in doors:
            response = await fetch(door, fields={"Cookie": held} if held else {})
            assert response.status == 200
            held = response.cookie or held
        after.append((response.backend, held))
    return after


def test_clocks_an_hour_apart_and_jumping_move_no_session(
    tmp_path: Path, start_backends: StartBackends
) -> None:
    plan = Plan(backends=start_backends("nginx", 3), sticky=[HEADER, COOKIE], secret=new_secret())
    mesh = Mesh(tmp_path, plan)
    offsets = (-HOUR_S, 0.0, HOUR_S)
    clocks = [
        FakeClock(tmp_path / f"clock-{number}", ahead_s=offset)
        for number, offset in enumerate(offsets)
    ]
    for node, clock in zip(mesh.nodes, clocks, strict=True):
        clock.use(node)
    mesh.start()
    made_at = {node.name: node.output().rpartition('"timestamp": "')[2][:13] for node in mesh.nodes}
    assert len(set(made_at.values())) == 3, "the clocks are alike: nothing is tested"

    # One backend for each new key, whoever makes the pin, and for each cookie at every node.
    race = asyncio.run(ask_everybody(mesh.ports, keys("key", 300), per_node=2))
    assert_one_answer_each(race, mesh.nodes)
    first = asyncio.run(visit(mesh.doors, [""] * CLIENTS))
    wait_agreed(mesh.nodes)
    pinned = asyncio.run(ask_everybody(mesh.ports, list(race), per_node=1))

    # NTP at last, and the other way round: all three clocks jump.
    for clock, offset in zip(clocks, (0.0, HOUR_S, -2 * HOUR_S), strict=True):
        clock.set(offset)
    assert "dead" not in states_seen(mesh.nodes, 4.0)
    assert asyncio.run(ask_everybody(mesh.ports, list(pinned), per_node=1)) == pinned
    late = asyncio.run(ask_everybody(mesh.ports, keys("late", 100), per_node=2))
    assert_one_answer_each(late, mesh.nodes)
    wait_agreed(mesh.nodes)
    pinned = asyncio.run(ask_everybody(mesh.ports, [*pinned, *late], per_node=1))
    cookies = [cookie for _, cookie in first]
    second = asyncio.run(visit(mesh.doors, cookies))
    assert [backend for backend, _ in second] == [backend for backend, _ in first]

    # Restarts take the clock as it is now: with an earlier incarnation than before, too.
    for node in mesh.nodes:
        node.kill()
        node.start()
        mesh.wait_ready()
    assert asyncio.run(ask_everybody(mesh.ports, list(pinned), per_node=1)) == pinned
    third = asyncio.run(visit(mesh.doors, [cookie for _, cookie in second]))
    assert [backend for backend, _ in third] == [backend for backend, _ in first]
    assert total(mesh.nodes, "conflict") == 0
