"""Clients that are slow on purpose: heads that never end, responses that nobody reads.

A thousand of them cost the fifty that behave nothing but their share of the machine, and leave
nothing behind when the node has shown them out.
"""

import asyncio
import contextlib
import os
import socket

from meshlb.proxy.backend import IDLE_CONNECTIONS_MAX
from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import Connection
from tests.peers.harness.mesh import Node

SLOW_HEADS = 500
NEVER_READING = 500
GOOD = 50
REQUESTS = 20
LARGE_BYTES = 1 << 20
"""More than the kernel takes for a client that does not read."""

SLACK = 3
"""Descriptors: the admin API's own client comes and goes."""

RESIDENT_GROWTH_MAX_BYTES = 48 << 20
"""What allocators keep; a thousand reads of 64 KiB that stayed would be more."""


async def dribble(port: int, until: asyncio.Event) -> bytes:
    """Send a head byte by byte; what the node says in the end."""
    async with await Connection.open(port) as connection:
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: shop\r\nX-Slow: ")
        with contextlib.suppress(ConnectionError):
            while not connection.reader.at_eof() and not until.is_set():
                connection.writer.write(b"x")
                await connection.writer.drain()
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(connection.reader.readline(), 0.7)
        return b""


def never_reading(port: int) -> socket.socket:
    """A client that asks for much and takes nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /files/large HTTP/1.1\r\nHost: shop\r\n\r\n")
    return sock


async def behave(port: int) -> int:
    """Ask, and ask again; how many answers were right."""
    right = 0
    async with await Connection.open(port) as connection:
        for _ in range(REQUESTS):
            response = await connection.request()
            right += response.status == 200 and response.body == b"s1\n"
            await asyncio.sleep(0.1)
    return right


def descriptors(node: Node) -> float:
    """Of the node, but for its connections to backends: some of those wait for the next request."""
    upstream = node.metric("meshlb_connections", kind="upstream")

    return len(os.listdir(f"/proc/{node.pid}/fd")) - upstream


def test_slow_clients_cost_the_good_ones_nothing_and_leave_nothing_behind(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    (backend,) = start_backends("nginx", 1)
    (backend.folder / "files" / "large").write_bytes(os.urandom(1 << 10) * (LARGE_BYTES >> 10))
    mesh = start_mesh(
        backends=[backend],
        size=1,
        timeouts='{ head = "4s", idle = "4s", tunnel_idle = "10m" }',
    )
    (node,) = mesh.nodes
    asyncio.run(behave(node.port))  # So that whatever is made once is there.
    wait_until(lambda: node.metric("meshlb_connections", kind="downstream") == 0, "a quiet node")
    descriptors_before, resident_before = descriptors(node), node.resident_bytes

    async def scenario() -> tuple[list[int], list[bytes]]:
        over = asyncio.Event()
        slow = [asyncio.create_task(dribble(node.port, over)) for _ in range(SLOW_HEADS)]
        right = await asyncio.gather(*(behave(node.port) for _ in range(GOOD)))
        refused = await asyncio.gather(*slow)
        over.set()
        return list(right), list(refused)

    stubborn = [never_reading(node.port) for _ in range(NEVER_READING)]
    try:
        right, refused = asyncio.run(scenario())
        assert right == [REQUESTS] * GOOD
        assert sum(line.startswith(b"HTTP/1.1 408 ") for line in refused) == SLOW_HEADS
        # Nobody of them has left of its own accord.
        wait_until(lambda: node.metric("meshlb_connections", kind="downstream") == 0, "all are out")
    finally:
        for sock in stubborn:
            sock.close()
    wait_until(lambda: descriptors(node) <= descriptors_before + SLACK, "descriptors are back")
    assert node.metric("meshlb_connections", kind="upstream") <= IDLE_CONNECTIONS_MAX
    assert node.resident_bytes - resident_before < RESIDENT_GROWTH_MAX_BYTES
