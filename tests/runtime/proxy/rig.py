"""A data plane in this process, in front of real sockets, with a stick table that is a dict."""

import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import trio

from meshlb.config.loader import load
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import NoQuorumError
from meshlb.model import Address, BackendName, NodeName, PoolName, SessionKey
from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.role import ALONE, Role
from meshlb.proxy.stream import Stream
from meshlb.wire.messages import Rank
from tests.runtime.proxy.wire import Origin, Recorder, Wire

TEST_S_MAX = 120
PATIENCE_S = 60
COOKIE_SECRET = b"c" * 32
KEY_SECRET = b"k" * 32


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    with trio.fail_after(PATIENCE_S):
        pause_s = 0.001
        while not condition():
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)


class DictTable:
    """A stick table of one node: whoever claims first wins, and moves are always granted."""

    def __init__(self) -> None:
        self._ahead_s = time.time() - trio.current_time()
        self.pins: dict[SessionKey, Pin] = {}
        self.claims: list[Proposal] = []
        self.planted: list[Proposal] = []
        self.touched: list[SessionKey] = []
        self.answers = trio.Event()
        """Claims wait for it."""
        self.answers.set()
        self.refuses = False
        """As in strict mode, while this node is with a minority."""

    def now(self) -> float:
        """Wall-clock seconds that go on as trio's clock does."""
        return trio.current_time() + self._ahead_s

    @property
    def is_strict(self) -> bool:
        return self.refuses

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        pin = self.pins.get(key)
        return pin if pin is not None and pin.is_live(now) else None

    def claim_soon(
        self, proposal: Proposal, on_done: Callable[[Pin | NoQuorumError], None]
    ) -> None:
        async def claim() -> None:
            try:
                on_done(await self.claim(proposal))
            except NoQuorumError as error:
                on_done(error)

        trio.lowlevel.spawn_system_task(claim)

    async def claim(self, proposal: Proposal) -> Pin:
        self.claims.append(proposal)
        await self.answers.wait()
        if self.refuses:
            raise NoQuorumError("this node is with a minority of the cluster")
        pin = self.look_up(proposal.key, self.now())
        if pin is None or (proposal.moved_from and proposal.rejects(pin)):
            epoch = proposal.moved_from_epoch + 1 if proposal.moved_from else 0
            pin = self.pin(proposal, epoch)
            self.pins[proposal.key] = pin
        return pin

    def plant(self, proposal: Proposal, *, epoch: int | None = None) -> Pin:
        assert epoch is not None or not self.is_strict
        self.planted.append(proposal)
        return self.pins.setdefault(proposal.key, self.pin(proposal, epoch or 0))

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        self.touched.append(key)
        self.pins[key] = replace(pin, expires_at=self.now() + ttl_s)

    def pin(self, proposal: Proposal, epoch: int) -> Pin:
        now = self.now()
        return Pin(
            proposal.pool,
            proposal.backend,
            proposal.by,
            epoch,
            Rank.QUORATE,
            int(now * 1_000),
            NodeName("n1"),
            now + proposal.ttl_s,
        )


class Rig:
    """A running data plane; `address` is its first listener's."""

    def __init__(
        self, plane: DataPlane, table: DictTable, nursery: trio.Nursery, may_listen: trio.Event
    ) -> None:
        self.plane = plane
        self.table = table
        self.nursery = nursery
        self.may_listen = may_listen
        self.origins: dict[str, Origin] = {}
        self.clients: list[Wire] = []
        self.inherits = False
        """Whether it has got the relays of another plane."""

    @property
    def address(self) -> Address:
        return next(iter(self.plane.addresses.values()))

    @property
    def tally(self):
        return self.plane.counters.listeners["web"]

    def backend(self, name: str = "s1", pool: str = "app") -> Backend:
        return self.plane.pools[PoolName(pool)].backends[BackendName(name)]

    async def client(self, *, receive_bytes: int | None = None) -> Wire:
        """A new client, if need be one whose kernel takes no more than `receive_bytes`."""
        sock = trio.socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        wire = Wire(trio.SocketStream(sock))
        self.clients.append(wire)
        await sock.connect((self.address.host, self.address.port))
        return wire

    def connect_now(self) -> Wire:
        """A new client, without giving the proxy a turn."""
        sock = socket.create_connection((self.address.host, self.address.port))
        wire = Wire(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
        self.clients.append(wire)
        return wire

    async def exchange(self, request: bytes) -> Wire:
        """A new client that has said `request`."""
        client = await self.client()
        await client.say(request)
        return client

    async def accept(self, name: str = "s1", *, talks: bool = True) -> Wire:
        """The next connection to a backend that the test plays."""
        return await self.origins[name].accept(talks=talks)

    def record(self, name: str = "s1") -> Recorder:
        """Let a lenient backend answer from now on."""
        recorder = Recorder(self.origins[name])
        self.nursery.start_soon(recorder.run)
        return recorder

    @property
    def downstreams(self) -> list[Stream]:
        return list(self.plane._frontends[0]._clients)

    @property
    def in_use(self) -> dict[str, int]:
        """Everything that a connection may hold."""
        backends = [b for pool in self.plane.pools.values() for b in pool.backends.values()]
        return {
            "clients": self.tally.connections,
            "tunnels": len(self.plane.tunnels),
            "exchanges": sum(b.connections for b in backends),
            "idle upstreams": sum(len(b.idle) for b in backends),
            "descriptors": len(self.plane._reactor)
            - len(self._listening)
            - sum(not relay.is_aside for relay in self.plane.tunnels.relays._all()),
        }

    @property
    def _listening(self) -> list[object]:
        registered = self.plane._reactor._handlers
        return [f for f in self.plane._frontends if f._sock and f._sock.fileno() in registered]

    async def settled(self, **expected: int) -> None:
        """Wait until exactly `expected` is in use; names are those of `in_use`."""
        wanted = dict.fromkeys(self.in_use, 0)
        wanted |= {name.replace("_", " "): count for name, count in expected.items()}
        with suppress(trio.TooSlowError):  # To say what is in use.
            await eventually(lambda: self.in_use == wanted)
        in_use = self.in_use
        assert in_use == wanted

    async def leave(self) -> None:
        """Close what the test opened; afterwards nothing may be left in the proxy."""
        for wire in self.clients:
            wire.stream.socket.close()
        for origin in self.origins.values():
            origin.close()
        await self.settled()


@asynccontextmanager
async def running(
    directory: Path,
    backends: dict[str, int],
    *,
    listener: str = "",
    pool: str = "",
    sticky: str = "",
    health: str = 'interval = "10m"\ntimeout = "1m"',
    protocol: str = "http",
    relay: str = "auto",
    may_listen: bool = True,
    role: Role = ALONE,
    sockets: Mapping[str, socket.socket] = MappingProxyType({}),
) -> AsyncIterator[Rig]:
    """A data plane on a free port in front of `backends` (name → port on loopback)."""
    lines = [
        f'[node]\nkernel_relay = "{relay}"',
        f'[[listener]]\nname = "web"\nbind = "127.0.0.1:0"\nprotocol = "{protocol}"\npool = "app"',
        listener,
        "[pool.app]",
        pool,
        sticky,
        "[pool.app.health]",
        health,
    ]
    for name, port in backends.items():
        lines.append(f'[[pool.app.backend]]\nname = "{name}"\naddress = "127.0.0.1:{port}"')
    path = directory / "rig.toml"
    path.write_text("\n".join(lines))
    table, reactor = DictTable(), Reactor()
    plane = DataPlane(
        load(path),
        table,
        reactor=reactor,
        table_now=table.now,
        cookie_secrets=(COOKIE_SECRET,),
        key_secret=KEY_SECRET,
        sockets=sockets,
        role=role,
    )
    gate = trio.Event()
    if may_listen:
        gate.set()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await plane.run(may_listen=gate, task_status=task_status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await nursery.start(run)
        if plane.tunnels.relays.own is not None:
            plane.tunnels.relays.own.messages_min = (
                0  # Few tests say as much as a tunnel mostly does.
            )
        if may_listen:
            await plane.accepting.wait()
        with trio.fail_after(TEST_S_MAX):
            yield Rig(plane, table, nursery, gate)
        nursery.cancel_scope.cancel()
    reactor.close()


@asynccontextmanager
async def scripted(
    directory: Path, *names: str, may_listen: bool = True, **settings: str
) -> AsyncIterator[Rig]:
    """A data plane before backends that the test plays; nothing may be left when it ends."""
    origins = {name: Origin() for name in names or ("s1",)}
    ports = {name: origin.port for name, origin in origins.items()}
    async with running(directory, ports, may_listen=may_listen, **settings) as rig:
        rig.origins = origins
        try:
            yield rig
            await rig.leave()
        finally:
            for origin in origins.values():
                origin.close()
            for wire in rig.clients:
                wire.stream.socket.close()
