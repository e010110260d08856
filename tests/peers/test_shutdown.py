"""SIGTERM: the node finishes what runs, leaves the cluster, and exits 0 in time."""

import asyncio
import signal

import pytest
from websockets.asyncio.client import connect

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import Connection
from tests.peers.harness.mesh import Mesh, Node

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


@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_says_goodbye_to_websockets_and_waits_for_their_answers(
    start_backends: StartBackends, start_mesh: StartMesh, workers: int
) -> None:
    mesh = start_mesh(
        backends=start_backends("echo", 1), size=1, shutdown_timeout="10s", workers=workers
    )
    node = mesh.nodes[0]
    url = f"ws://127.0.0.1:{node.port}/chat?user=1"

    async def scenario() -> int:
        tunnels = [await connect(url) for _ in range(4)]
        for tunnel in tunnels:
            assert (await tunnel.recv()).startswith("s1 ")
        status = await asyncio.to_thread(node.terminate, timeout_s=MACHINE_SLACK_S)
        for tunnel in tunnels:
            await tunnel.wait_closed()
            assert tunnel.close_code == 1001
            assert tunnel.protocol.close_sent is not None, "it has answered"
        return status

    assert asyncio.run(scenario()) == 0


def test_a_second_sigterm_stops_at_once(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("plain", 1), size=1, shutdown_timeout="10m")
    node = mesh.nodes[0]

    async def scenario() -> None:
        async with await Connection.open(node.port) as busy:
            busy.writer.write(b"GET /slow?ms=600000 HTTP/1.1\r\nHost: x\r\n\r\n")
            await at_backend(node)
            node.signal(signal.SIGTERM)
            await asyncio.to_thread(
                wait_until, lambda: "node leaves" in node.output(), "the node leaves"
            )
            await asyncio.to_thread(node.terminate)

    asyncio.run(scenario())
