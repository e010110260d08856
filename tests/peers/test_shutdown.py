"""SIGTERM: the node finishes what runs, leaves the cluster, and exits 0 in time."""

import asyncio
import signal

from websockets.asyncio.client import connect

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import Connection
from tests.peers.harness.mesh import Mesh, Node

SHUTDOWN_TIMEOUT_S = 3.0
MACHINE_SLACK_S = 30.0


def left(mesh: Mesh, node: Node) -> bool:
    others = [other for other in mesh.nodes if other is not node]
    return all(other.members().get(node.name) in ("left", None) for other in others)


async def at_backend(node: Node) -> None:
    """Wait until a request is under way at the backend."""

    def is_there() -> bool:
        (pool,) = node.ask("/v1/pools")[1]["pools"]
        return any(backend["connections"] for backend in pool["backends"])

    await asyncio.to_thread(wait_until, is_there, "the request is at the backend")


def test_sigterm_lets_a_running_response_finish_and_leaves_at_once_with_status_0(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("plain", 1), size=3, shutdown_timeout="10m")
    node = mesh.nodes[0]

    async def scenario() -> int:
        async with (
            await Connection.open(node.port) as idle,
            await Connection.open(node.port) as busy,
        ):
            await idle.request("/")
            answer = asyncio.create_task(busy.request("/slow?ms=3000"))
            await at_backend(node)
            status = await asyncio.to_thread(node.terminate)
            assert (await answer).status == 200
            return status

    assert asyncio.run(scenario()) == 0
    wait_until(lambda: left(mesh, node), f"all know that {node.name} left")


def test_sigterm_ends_open_tunnels_within_the_shutdown_timeout(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("echo", 1), size=1, shutdown_timeout="3s")
    node = mesh.nodes[0]

    async def scenario() -> int:
        async with connect(f"ws://127.0.0.1:{node.port}/chat?user=1") as tunnel:
            assert await tunnel.recv() == "s1 1"
            return await asyncio.to_thread(
                node.terminate, timeout_s=SHUTDOWN_TIMEOUT_S + MACHINE_SLACK_S
            )

    assert asyncio.run(scenario()) == 0


def test_a_second_sigterm_stops_at_once(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("echo", 1), size=1, shutdown_timeout="10m")
    node = mesh.nodes[0]

    async def scenario() -> None:
        async with connect(f"ws://127.0.0.1:{node.port}/chat?user=1") as tunnel:
            await tunnel.recv()
            node.signal(signal.SIGTERM)
            await asyncio.to_thread(
                wait_until, lambda: "node leaves" in node.output(), "the node leaves"
            )
            await asyncio.to_thread(node.terminate)

    asyncio.run(scenario())
