"""Tunnels and keep-alive clients that go on while something is done to the node they go through.

Each tunnel sends random bytes without waiting for their return, and compares what returns byte by
byte, so that a byte lost, repeated or moved in either direction shows. Their number is small by
default; `MESHLB_LIVE_SOCKETS` and `MESHLB_LIVE_REQUESTS` (a second) enlarge it.
"""

import asyncio
import os
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.peers.harness.http import Connection, Door

SOCKETS = int(os.environ.get("MESHLB_LIVE_SOCKETS", "100"))
REQUESTS_A_SECOND = int(os.environ.get("MESHLB_LIVE_REQUESTS", "150"))
CLIENTS = 16
CHUNK_BYTES_MAX = 8_000
PAUSE_S_MAX = 0.4
RETURN_S_MAX = 60.0
DIAL_AT_ONCE = 32

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Tunnel:
    """One upgraded connection to `mirror` backends."""

    def __init__(self, connection: Connection, backend: str) -> None:
        self.backend = backend
        self.sent_bytes = 0
        self._connection = connection
        self._under_way: deque[bytes] = deque()
        self._all_sent = False

    @classmethod
    async def open(cls, door: Door, session: str) -> "Tunnel":
        connection = await Connection.open(door)
        answer = await connection.request(fields={**HANDSHAKE, "X-Session": session})
        assert answer.status == 101, answer
        return cls(connection, answer.backend)

    async def talk(self, enough: asyncio.Event) -> None:
        """Send until `enough`, and see all of it return."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(enough))
            group.create_task(self._compare())

    async def close(self) -> None:
        await self._connection.close()

    async def _send(self, enough: asyncio.Event) -> None:
        writer = self._connection.writer
        while not enough.is_set():
            chunk = random.randbytes(random.randint(1, CHUNK_BYTES_MAX))
            self._under_way.append(chunk)
            self.sent_bytes += len(chunk)
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(random.random() * PAUSE_S_MAX)
        self._under_way.append(b"END")
        writer.write(b"END")
        await writer.drain()
        self._all_sent = True

    async def _compare(self) -> None:
        while not self._all_sent or self._under_way:
            if not self._under_way:
                await asyncio.sleep(0.01)
                continue
            chunk = self._under_way.popleft()
            async with asyncio.timeout(RETURN_S_MAX):
                back = await self._connection.reader.readexactly(len(chunk))
            assert back == chunk, "other bytes came back than were sent"


@dataclass
class Live:
    """What is going on."""

    door: Door
    tunnels: list[Tunnel]
    answered: Counter[str] = field(default_factory=Counter)
    """By backend."""
    homes: dict[int, str] = field(default_factory=dict)
    """The backend of each keep-alive client's session."""
    newcomers: int = 0
    """Connections made just to ask once, none of them refused."""
    removed: set[str] = field(default_factory=set)
    """Backends whose sessions may move."""
    closed_idle: int = 0
    """Keep-alive connections that the node closed while no request was on them."""

    def sent_bytes(self) -> int:
        return sum(tunnel.sent_bytes for tunnel in self.tunnels)

    async def come_anew(self, enough: asyncio.Event) -> None:
        """Newcomers, one after the other: none is refused."""
        while not enough.is_set():
            async with await Connection.open(self.door) as connection:
                answer = await connection.request(fields={"X-Session": "newcomer"})
            assert answer.status == 200, answer
            self.newcomers += 1
            await asyncio.sleep(PAUSE_S_MAX / 20)

    async def ask(self, number: int, enough: asyncio.Event) -> None:
        """One keep-alive client; every request has its answer, from the session's backend."""
        connection = await Connection.open(self.door)
        try:
            while not enough.is_set():
                if connection.reader.at_eof():
                    await connection.close()
                    connection = await Connection.open(self.door)
                    self.closed_idle += 1
                answer = await connection.request(fields={"X-Session": f"asker-{number}"})
                assert answer.status == 200, answer
                self.answered[answer.backend] += 1
                home = self.homes.setdefault(number, answer.backend)
                assert answer.backend == home or home in self.removed, "a session has moved"
                if answer.field("connection") == "close":
                    await connection.close()
                    connection = await Connection.open(self.door)
                await asyncio.sleep(random.random() * 2 * CLIENTS / REQUESTS_A_SECOND)
        finally:
            await connection.close()


@asynccontextmanager
async def live(door: Door, *, newcomers: bool = False) -> AsyncIterator[Live]:
    """Everything goes on while the block runs; then all must have come back whole.

    With `newcomers`, clients come anew all the time, and none may be refused.
    """
    gate = asyncio.Semaphore(DIAL_AT_ONCE)

    async def dial(number: int) -> Tunnel:
        async with gate:
            return await Tunnel.open(door, f"tunnel-{number}")

    tunnels = await asyncio.gather(*map(dial, range(SOCKETS)))
    enough = asyncio.Event()
    going = Live(door, list(tunnels))
    try:
        async with asyncio.TaskGroup() as group:
            for tunnel in tunnels:
                group.create_task(tunnel.talk(enough))
            if newcomers:
                group.create_task(going.come_anew(enough))
            for number in range(CLIENTS):
                group.create_task(going.ask(number, enough))
            yield going
            enough.set()
    finally:
        for tunnel in tunnels:
            await tunnel.close()
