"""A rolling restart under load: what was agreed stays, whoever is asked and whenever."""

import asyncio
from itertools import count, cycle, takewhile

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.background import IsOver, in_background
from tests.peers.harness.mesh import HEADER
from tests.peers.harness.race import Race
from tests.peers.harness.views import assert_one_answer_each, total, wait_agreed
from tests.peers.test_failures import ask_anybody

PINNED = 300


def test_a_rolling_restart_under_load_moves_no_session_and_agrees_on_new_ones(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER])
    old = [f"old-{number}" for number in range(PINNED)]
    asyncio.run(ask_anybody(mesh.ports, old))
    wait_agreed(mesh.nodes)
    pinned = asyncio.run(ask_anybody(mesh.ports, old))
    serving = list(mesh.nodes)
    returning = Race(lambda: [node.door for node in serving], clients=6)
    beginning = Race(lambda: [node.door for node in serving], clients=6)
    excused = 0.0

    async def load(is_over: IsOver) -> None:
        """Some clients return all the time, others begin sessions."""
        again = takewhile(lambda _: not is_over(), cycle(old))
        new = takewhile(lambda _: not is_over(), (f"new-{number}" for number in count()))
        async with asyncio.TaskGroup() as group:
            group.create_task(returning.run(again))
            group.create_task(beginning.run(new))

    with in_background(load):
        for node in mesh.nodes:
            serving.remove(node)
            excused += total([node], "provisional")
            assert node.terminate() == 0
            node.start()
            mesh.wait_ready()
            serving.append(node)

    moved = {key: got for key, got in returning.answered.items() if set(got) != {pinned[key]}}
    assert moved == {}
    assert_one_answer_each(beginning.answered, mesh.nodes, excused=excused)
    assert total(mesh.nodes, "conflict") == 0
    print(
        f"{sum(map(len, returning.answered.values())):,} requests of {PINNED} sessions and"
        f" {len(beginning.answered):,} new ones, {returning.retried + beginning.retried} sent again"
    )

    later = Race(lambda: [node.door for node in mesh.nodes], at_once=1)
    asyncio.run(later.run(list(beginning.answered)))
    lost = {
        key: got
        for key, got in later.answered.items()
        if not set(got) <= set(beginning.answered[key])
    }
    assert len(lost) <= excused + total(mesh.nodes, "provisional"), lost
