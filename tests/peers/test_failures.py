"""What keeps its backend, and what moves, when nodes and backends die."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import Connection, Door
from tests.peers.harness.mesh import HEADER
from tests.peers.harness.views import assert_one_answer_each
from tests.peers.test_agreement import KEYS_AT_ONCE, ask_everybody

CRASH_KNOWN_S = 4.0
"""What is promised at this size; printed, not asserted: another machine may be slower."""


async def ask_anybody(doors: Sequence[Door], keys: Sequence[str]) -> dict[str, str]:
    """The backend that answers each key, each asked once, at a random node."""
    answered = {}
    waiting = list(reversed(keys))

    async def ask_in_turn() -> None:
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(await Connection.open(door)) for door in doors
            ]
            while waiting:
                key = waiting.pop()
                response = await random.choice(connections).request(fields={"X-Session": key})
                assert response.status == 200
                answered[key] = response.backend

    async with asyncio.TaskGroup() as group:
        for _ in range(KEYS_AT_ONCE):
            group.create_task(ask_in_turn())
    return answered


def test_all_nodes_killed_at_once_and_restarted_keep_every_pin(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER])
    keys = [f"key-{number}" for number in range(5_000)]
    before = asyncio.run(ask_anybody(mesh.ports, keys))

    for node in mesh.nodes:
        node.kill()
    mesh.start()

    after = asyncio.run(ask_anybody(mesh.ports, keys))
    assert [key for key in keys if after[key] != before[key]] == []


def test_keys_of_a_dead_backend_move_once_to_one_backend_and_no_other_key_moves(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    backends = start_backends("nginx", 4)
    mesh = start_mesh(backends=backends, sticky=[HEADER])
    keys = [f"key-{number}" for number in range(800)]
    before = asyncio.run(ask_anybody(mesh.ports, keys))

    backends[0].kill()
    # At once: the keys move on the evidence of a refused connection, before any health check.
    during = asyncio.run(ask_everybody(mesh.ports, keys, per_node=2))
    for node in mesh.nodes:
        wait_until(lambda node=node: node.backend_states()["s1"] == "down", "s1 is down")
    after = asyncio.run(ask_everybody(mesh.ports, keys, per_node=1))

    assert_one_answer_each(during, mesh.nodes)
    for key in keys:
        assert after[key] <= during[key], f"{key} moved again"
        if before[key] == "s1":
            assert "s1" not in during[key]
        else:
            assert during[key] == {before[key]}, f"{key} moved without cause"

    # A returned backend gets new keys, and none back: its memory is gone.
    backends[0].start()
    for node in mesh.nodes:
        wait_until(lambda node=node: node.backend_states()["s1"] == "up", "s1 is up")
    assert asyncio.run(ask_everybody(mesh.ports, keys, per_node=1)) == after


def test_a_crash_is_known_to_all_of_five_nodes_and_nobody_else_is_suspected_dead(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 1), size=5)
    victim, *others = mesh.nodes

    victim.kill()
    took_s = wait_until(
        lambda: all(node.members()[victim.name] == "dead" for node in others),
        f"all know that {victim.name} is dead",
    )
    print(f"crash known to all after {took_s:.1f} s (promise: {CRASH_KNOWN_S} s)")

    for node in others:
        states = node.members()
        assert {name for name, state in states.items() if state == "dead"} == {victim.name}

    victim.start()
    mesh.wait_ready()


def test_a_drained_backend_keeps_its_keys_and_gets_no_new_ones(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER])
    keys = [f"key-{number}" for number in range(60)]
    before = asyncio.run(ask_anybody(mesh.ports, keys))

    status, _ = mesh.nodes[0].ask(
        "/v1/pools/app/backends/s1/state", method="PUT", body={"state": "draining"}
    )
    assert status == 200
    for node in mesh.nodes:
        wait_until(lambda node=node: node.backend_states()["s1"] == "draining", "s1 drains")

    assert asyncio.run(ask_anybody(mesh.ports, keys)) == before
    late = asyncio.run(ask_anybody(mesh.ports, [f"late-{number}" for number in range(60)]))
    assert set(late.values()) == {"s2", "s3"}


def test_an_operators_word_outlasts_all_nodes_and_says_who_spoke_it_and_when(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER])
    speaker, *_, killed_first = mesh.nodes
    killed_first.kill()  # it learns when it returns
    speaker.ask("/v1/pools/app/backends/s1/state", method="PUT", body={"state": "maintenance"})
    for node in mesh.nodes:
        node.kill()
    mesh.start()

    answered = asyncio.run(ask_anybody(mesh.ports, [f"key-{number}" for number in range(60)]))
    assert set(answered.values()) == {"s2", "s3"}
    orders = []
    for node in mesh.nodes:
        _, told = node.ask("/v1/pools")
        assert told["pools"][0]["backends"][0]["state"] == "maintenance"
        orders.append(told["pools"][0]["backends"][0]["order"])
    assert orders == [{**orders[0], "state": "maintenance", "by": speaker.name}] * len(mesh.nodes)


def test_explain_says_from_where_to_where_a_session_moved_and_why(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 2), sticky=[HEADER])
    mover, *_ = mesh.nodes
    (before,) = asyncio.run(ask_anybody(mesh.ports, ["alice"])).values()
    path = f"/v1/pools/app/backends/{before}/state"
    mover.ask(path, method="PUT", body={"state": "maintenance"})
    (after,) = asyncio.run(ask_anybody(mesh.ports[:1], ["alice"])).values()
    _, story = mover.ask("/v1/explain?pool=app&key=alice")
    told = story["history"][-1]["what"]
    assert f"moved from {before} to {after} by {mover.name}, epoch 1" in told
    assert told.endswith(f": {before} is in maintenance")
