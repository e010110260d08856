"""WebSocket clients that drop and come back through random nodes, and nodes that die under them."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.mesh import COOKIE, HEADER, Mesh, Node

CLIENTS = 200
MESSAGES = 20
DIALS_MAX = 40


@dataclass(slots=True)
class Client:
    """A client with an identity (a cookie it was given, or a header of its own)."""

    number: int
    ports: Sequence[int]
    identity: dict[str, str]
    backends: list[str] = field(default_factory=list)
    visits: list[int] = field(default_factory=list)
    port: int = 0
    """The node that carries the client now."""

    async def dial(self) -> ClientConnection:
        """Connect through a random node, trying others while one is dead."""
        for _ in range(DIALS_MAX):
            self.port = random.choice(self.ports)
            url = f"ws://127.0.0.1:{self.port}/chat?user={self.number}"
            try:
                connection = await connect(
                    url,
                    additional_headers=self.identity,
                    compression=None,
                    open_timeout=None,
                    ping_interval=None,
                )
            except (OSError, EOFError, InvalidHandshake):
                await asyncio.sleep(0.05)
                continue
            assert connection.response is not None
            if set_cookie := connection.response.headers.get("Set-Cookie"):
                self.identity["Cookie"] = set_cookie.partition(";")[0]
            name, visits = str(await connection.recv()).split()
            self.backends.append(name)
            self.visits.append(int(visits))
            return connection
        raise AssertionError(f"client {self.number} found no node in {DIALS_MAX} dials")

    async def talk(self, connection: ClientConnection) -> None:
        """Say things of several sizes, and hear each of them back."""
        for size in random.choices((0, 5, 125, 126, 4_000, 70_000), k=MESSAGES):
            message = random.randbytes(size)
            await connection.send(message)
            assert await connection.recv() == message

    async def drop_and_return(self, times: int) -> None:
        for _ in range(times):
            connection = await self.dial()
            await self.talk(connection)
            if random.random() < 0.5:
                await connection.close()
            else:
                connection.transport.abort()

    async def survive(self, connection: ClientConnection, victim: Node) -> None:
        """Stay on `connection`, or come back if it went through the killed node; then talk."""
        if self.port == victim.port:
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            connection = await self.dial()
        await self.talk(connection)
        await connection.close()


def clients_of(mesh: Mesh, by: str) -> list[Client]:
    ports = mesh.ports
    return [
        Client(number, ports, {"X-Session": f"client-{number}"} if by == "header" else {})
        for number in range(CLIENTS)
    ]


async def together(clients: Sequence[Client], times: int) -> None:
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.drop_and_return(times))


def assert_every_client_kept_its_backend(clients: Sequence[Client]) -> None:
    for client in clients:
        assert len(set(client.backends)) == 1, f"client {client.number}: {client.backends}"
        assert client.visits == list(range(1, len(client.visits) + 1))
    assert len({client.backends[0] for client in clients}) == 3


@pytest.mark.parametrize("by", ["cookie", "header"])
def test_clients_that_drop_and_reconnect_through_random_nodes_keep_their_backend(
    by: str, start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(
        backends=start_backends("echo", 3), sticky=[COOKIE if by == "cookie" else HEADER]
    )
    clients = clients_of(mesh, by)
    asyncio.run(together(clients, times=3))
    assert_every_client_kept_its_backend(clients)


@pytest.mark.parametrize("by", ["cookie", "header"])
def test_clients_of_a_killed_node_all_come_back_to_their_backend(
    by: str, start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(
        backends=start_backends("echo", 3), sticky=[COOKIE if by == "cookie" else HEADER]
    )
    clients = clients_of(mesh, by)
    victim = mesh.nodes[1]

    async def scenario() -> None:
        connections = await asyncio.gather(*(client.dial() for client in clients))
        victim.kill()
        async with asyncio.TaskGroup() as group:
            for client, connection in zip(clients, connections, strict=True):
                group.create_task(client.survive(connection, victim))

    asyncio.run(scenario())
    returned = sum(len(client.backends) == 2 for client in clients)
    assert returned > CLIENTS / 10, "the killed node carried hardly anybody"
    assert_every_client_kept_its_backend(clients)
