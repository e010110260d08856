"""Three nodes of several processes each: who serves does not matter, and who dies little."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import Connection, fetch
from tests.peers.harness.live import Tunnel
from tests.peers.harness.mesh import COOKIE, HEADER, Node
from tests.peers.test_agreement import ask_everybody

KEYS = 300
PER_NODE = 6
"""Connections to each node: as good as surely, some to each of its workers."""

CLIENTS = 60


def workers(node: Node) -> list[dict[str, Any]]:
    return list(node.status()["workers"])


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_all_workers_of_all_nodes_agree_and_die_with_their_node(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(
        backends=start_backends("nginx", 3), sticky=[HEADER, COOKIE], workers=2, size=3
    )
    keys = [f"key-{number}" for number in range(KEYS)]
    answered = asyncio.run(ask_everybody(mesh.ports, keys, per_node=PER_NODE))
    assert [key for key in keys if len(answered[key]) != 1] == []
    assert sum(node.metric("meshlb_pins_total", outcome="conflict") for node in mesh.nodes) == 0
    asyncio.run(cookies_hold(mesh.ports))

    victim = mesh.nodes[0]
    pids = [worker["pid"] for worker in workers(victim)]
    victim.kill()
    wait_until(lambda: all(map(is_gone, pids)), "the workers have ended with their node")
    later = asyncio.run(ask_everybody(mesh.ports, keys, per_node=1))
    assert later == answered


async def cookies_hold(ports: Sequence[int]) -> None:
    """Each client has its cookie from one worker and goes to many others with it."""
    for _ in range(CLIENTS):
        first = await fetch(ports[0])
        assert first.cookie is not None
        others = await asyncio.gather(
            *(fetch(port, fields={"Cookie": first.cookie}) for port in ports for _ in range(3))
        )
        assert {other.backend for other in others} == {first.backend}


def test_a_killed_worker_under_load_costs_nobody_else_a_request(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 2), sticky=[HEADER], workers=2, size=1)
    (node,) = mesh.nodes
    broken, answered, refused = asyncio.run(kill_under_load(node))
    assert refused == 0
    assert 0 < broken < CLIENTS
    assert answered > 0
    assert sum(worker["restarts"] for worker in workers(node)) == 1
    asyncio.run(asyncio.wait_for(fetch(node.port), timeout=60))


def test_least_connections_weighs_those_of_the_other_node(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(
        backends=start_backends("mirror", 2),
        sticky=[],
        balance="least-connections",
        workers=2,
        size=2,
    )
    here, there = mesh.nodes

    async def open_one_at_each() -> list[str]:
        first = await Tunnel.open(here.port, "a")
        await asyncio.to_thread(
            wait_until, lambda: elsewhere(there)[first.backend] == 1, "the other node knows of it"
        )
        second = await Tunnel.open(there.port, "b")
        await first.close()
        await second.close()
        return [first.backend, second.backend]

    assert sorted(asyncio.run(open_one_at_each())) == ["s1", "s2"]


def elsewhere(node: Node) -> dict[str, int]:
    """The connections that other nodes have to each backend, as this one knows."""
    (pool,) = node.ask("/v1/pools")[1]["pools"]
    return {backend["name"]: backend["connections_elsewhere"] for backend in pool["backends"]}


async def kill_under_load(node: Node) -> tuple[int, int, int]:
    """Connections that broke, requests answered after the kill, and newcomers refused."""
    broken = answered = refused = 0
    is_killed, is_over = asyncio.Event(), asyncio.Event()

    async def keep_asking(connection: Connection, key: str) -> None:
        nonlocal broken, answered
        backends: set[str] = set()
        async with connection:
            while not is_over.is_set():
                try:
                    response = await connection.request(fields={"X-Session": key})
                except (OSError, EOFError):
                    broken += 1
                    return
                assert response.status == 200
                backends.add(response.backend)
                assert len(backends) == 1
                answered += is_killed.is_set()

    async def keep_coming() -> None:
        nonlocal refused
        while not is_over.is_set():
            try:
                async with await Connection.open(node.port) as connection:
                    await connection.request(fields={"X-Session": "newcomer"})
            except ConnectionRefusedError:
                refused += 1
            except (OSError, EOFError):
                pass  # It was at the worker that was killed.

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            connection = await Connection.open(node.port)
            group.create_task(keep_asking(connection, f"key-{number}"))
        group.create_task(keep_coming())
        await until(node, lambda worker: worker["connections"] > 0)
        victim = (await status(node))[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        is_killed.set()
        await until(node, lambda worker: worker["accepting"] and worker["pid"] != victim)
        is_over.set()
    return broken, answered, refused


async def status(node: Node) -> list[dict[str, Any]]:
    return await asyncio.to_thread(workers, node)


async def until(node: Node, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Return once something holds of every worker."""
    async with asyncio.timeout(60):
        while not all(map(holds, await status(node))):  # noqa: ASYNC110 - it is elsewhere
            await asyncio.sleep(0.05)
