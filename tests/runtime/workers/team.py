"""A node in this process with real workers, between clients and backends that the test plays."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from meshlb import node
from meshlb.admin.view import WorkerView
from meshlb.config import load
from meshlb.model import Address, BackendName, BackendState, PoolName
from meshlb.node.front import Front
from meshlb.node.view import LiveNode
from tests.runtime.proxy.messages import get
from tests.runtime.proxy.wire import Origin, Wire

TEST_S_MAX = 300.0
PATIENCE_S = 120.0
APP = PoolName("app")


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it is in another process
            await trio.sleep(0.005)


class Team:
    """A node that serves."""

    def __init__(self, view: LiveNode, origins: dict[str, Origin], config: Path) -> None:
        self.view = view
        self.origins = origins
        self.config = config
        self.clients: list[Wire] = []

    @property
    def address(self) -> Address:
        (address,) = self.view.status().listeners.values()
        return Address.parse(address)

    @property
    def workers(self) -> tuple[WorkerView, ...]:
        return self.view.status().workers

    @property
    def pids(self) -> list[int | None]:
        return [worker.pid for worker in self.workers]

    def connections(self) -> dict[str, int]:
        (pool,) = self.view.pools()
        return {backend.name: backend.connections for backend in pool.backends}

    async def client(self) -> Wire:
        sock = trio.socket.socket()
        wire = Wire(trio.SocketStream(sock))
        self.clients.append(wire)
        await sock.connect((self.address.host, self.address.port))
        return wire

    async def exchange(self, *fields: bytes) -> Wire:
        """A new client that has asked."""
        client = await self.client()
        await client.say(get(b"/", *fields))
        return client

    async def order(self, backend: str, state: BackendState) -> None:
        await self.view.set_backend_state(APP, BackendName(backend), state)

    async def settle(self, clients: int) -> None:
        """Wait until so many clients are counted."""
        await eventually(lambda: sum(worker.connections for worker in self.workers) == clients)

    @property
    def front(self) -> Front:
        return self.view._front

    def go_on(self) -> None:
        """After `front.pause`, with the table from before."""
        mesh = self.view._mesh
        self.front.use(self.view._store, mesh.table, mesh.clock.now)
        self.front.resume()

    def leave(self) -> None:
        for wire in self.clients:
            wire.stream.socket.close()
        for origin in self.origins.values():
            origin.close()


def write_config(
    path: Path,
    origins: dict[str, Origin],
    *,
    workers: int,
    sticky: str,
    balance: str,
    port: int = 0,
    shutdown: str = "3s",
) -> None:
    backends = "".join(
        f'[[pool.app.backend]]\nname = "{name}"\naddress = "127.0.0.1:{origin.port}"\n'
        for name, origin in origins.items()
    )
    path.write_text(f"""
[node]
name = "solo"
workers = {workers}
shutdown_timeout = "{shutdown}"

[admin]
bind = "unix:{path.parent / "admin"}"

[[listener]]
name = "web"
bind = "127.0.0.1:{port}"
pool = "app"
timeouts = {{ head = "5m", idle = "10m" }}

[pool.app]
balance = "{balance}"
{sticky}

[pool.app.health]
interval = "10m"

{backends}
""")


@asynccontextmanager
async def working(
    folder: Path,
    *names: str,
    workers: int = 2,
    sticky: str = "",
    balance: str = "round-robin",
    shutdown: str = "3s",
) -> AsyncIterator[Team]:
    """A node with `workers` in front of backends of these names."""
    origins = {name: Origin() for name in names or ("s1",)}
    config = folder / "node.toml"
    write_config(
        config, origins, workers=workers, sticky=sticky, balance=balance, shutdown=shutdown
    )
    views: list[Any] = []
    has_view = trio.Event()

    def ready(view: LiveNode) -> None:
        views.append(view)
        has_view.set()

    with trio.fail_after(TEST_S_MAX):
        async with trio.open_nursery() as nursery:
            run = partial(node.run, load(config), load=partial(load, config), ready=ready)
            nursery.start_soon(run)
            await has_view.wait()
            team = Team(views[0], origins, config)
            try:
                yield team
            finally:
                team.leave()
                await team.view.leave()


async def refused(address: Address) -> bool:
    """Whether nobody listens there."""
    with trio.socket.socket() as sock:
        try:
            await sock.connect((address.host, address.port))
        except ConnectionRefusedError:
            return True
    return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
