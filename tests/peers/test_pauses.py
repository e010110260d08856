"""Nodes that stand still and go on, and several that are killed at once."""

import asyncio
import signal
import time
from collections.abc import Sequence

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import fetch
from tests.peers.harness.mesh import HEADER, Node
from tests.peers.harness.views import (
    assert_one_answer_each,
    states_seen,
    total,
    wait_agreed,
    wait_views,
)
from tests.peers.test_agreement import ask_everybody
from tests.peers.test_failures import ask_anybody

PAUSE_S = 10.0
SHORT_PAUSE_S = 1.0
SHORT_PAUSE_S_MAX = 1.5
"""What a busy machine makes of a short pause, and must still be no death."""


def keys(word: str, count: int) -> list[str]:
    return [f"{word}-{number}" for number in range(count)]


def test_a_node_that_stands_still_for_a_second_is_nobodys_dead(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER])
    paused, *others = mesh.nodes
    asyncio.run(ask_anybody(mesh.ports, keys("key", 100)))
    wait_agreed(mesh.nodes)
    before = asyncio.run(ask_anybody(mesh.ports, keys("key", 100)))

    began_at = time.monotonic()
    paused.signal(signal.SIGSTOP)
    seen = states_seen(others, SHORT_PAUSE_S)
    paused.signal(signal.SIGCONT)
    took_s = time.monotonic() - began_at
    seen |= states_seen(mesh.nodes, 6.0)

    if took_s < SHORT_PAUSE_S_MAX:
        assert seen <= {"alive", "suspect"}
        assert [node.heals() for node in mesh.nodes] == [[], [], []]
    wait_views(mesh.nodes)
    assert asyncio.run(ask_everybody(mesh.ports, list(before), per_node=1)) == as_sets(before)


def test_a_node_that_stands_still_for_ten_seconds_is_dead_comes_back_and_contradicts_nobody(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER])
    paused, *others = mesh.nodes
    doors = [node.door for node in others]
    asyncio.run(ask_anybody(mesh.ports, keys("old", 100)))
    wait_agreed(mesh.nodes)
    old = asyncio.run(ask_anybody(mesh.ports, keys("old", 100)))
    new = keys("new", 60)

    async def ask_during_the_pause() -> tuple[dict[str, str], dict[str, set[str]]]:
        """The keys are asked at the paused node first, which answers once it goes on."""
        stopped_at = time.monotonic()
        paused.signal(signal.SIGSTOP)
        waiting = [
            asyncio.create_task(fetch(paused.door, fields={"X-Session": key})) for key in new
        ]
        await asyncio.to_thread(wait_dead, paused, others)
        meanwhile = await ask_everybody(doors, new, per_node=1)
        assert await ask_anybody(doors, list(old)) == old
        await asyncio.sleep(max(0.0, stopped_at + PAUSE_S - time.monotonic()))
        assert not any(task.done() for task in waiting)
        paused.signal(signal.SIGCONT)
        late = [response.backend for response in await asyncio.gather(*waiting)]
        return dict(zip(new, late, strict=True)), meanwhile

    late, meanwhile = asyncio.run(ask_during_the_pause())
    began_at = time.monotonic()
    wait_views(mesh.nodes)
    wait_agreed(mesh.nodes)
    print(
        f"after a pause of {PAUSE_S:.0f} s: whole again {time.monotonic() - began_at:.1f} s later"
    )

    assert_one_answer_each(meanwhile, others)
    assert_one_answer_each({key: meanwhile[key] | {late[key]} for key in new}, mesh.nodes)
    after = asyncio.run(ask_everybody(mesh.ports, [*old, *new], per_node=1))
    assert {key: after[key] for key in old} == as_sets(old)
    assert all(len(after[key]) == 1 and after[key] <= meanwhile[key] for key in new)
    assert total(mesh.nodes, "conflict") == 0
    assert all(heal["pins_moved"] == 0 for node in others for heal in node.heals())


def wait_dead(gone: Node, others: Sequence[Node]) -> None:
    for node in others:
        wait_until(lambda node=node: node.members()[gone.name] == "dead", f"{gone.name} is dead")


def test_two_of_five_killed_at_once_come_back_with_and_without_their_disks(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER], size=5)
    asyncio.run(ask_anybody(mesh.ports, keys("before", 500)))
    dead, alive = mesh.nodes[:2], mesh.nodes[2:]
    wait_agreed(mesh.nodes)
    expected = asyncio.run(ask_anybody(mesh.ports, keys("before", 500)))

    for node in dead:
        node.kill()
    doors = [node.door for node in alive]
    assert asyncio.run(ask_anybody(doors, list(expected))) == expected
    for node in dead:
        wait_dead(node, alive)
    during = asyncio.run(ask_everybody(doors, keys("during", 200), per_node=2))
    assert_one_answer_each(during, alive)
    wait_agreed(alive)
    during = asyncio.run(ask_everybody(doors, list(during), per_node=1))

    (dead[1].folder / "state" / "data.mdb").unlink()
    mesh.start_again(dead)
    everything = as_sets(expected) | during
    assert asyncio.run(ask_everybody(mesh.ports, list(everything), per_node=1)) == everything
    assert total(mesh.nodes, "conflict") == 0


def as_sets(answered: dict[str, str]) -> dict[str, set[str]]:
    return {key: {backend} for key, backend in answered.items()}
