"""Clients that come back with a session, at a steady pace, through any node of a tier.

As browsers do behind DNS round robin: each request goes to a node drawn at random, over a
connection that is kept; where nobody accepts it goes to another one at once, and where a
connection ends without a byte of an answer it is sent again. A response that is cut off, one that
says that something failed, or no node at all is a failure.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

TRIES_MAX: Final = 5
REPLY_S: Final = 10.0
OK: Final = 200

_BACKEND = re.compile(rb"\r\nx-backend: ([^\r]+)\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(slots=True)
class Tally:
    """What has happened to the requests so far."""

    answered: int = 0
    moved: int = 0
    """Answered by another backend than the session's."""
    failed: int = 0
    again: int = 0
    """Sent again, for the connection ended without an answer."""
    turned_away: int = 0
    """Connections that nobody accepted."""
    took_s: list[float] = field(default_factory=list)
    """Of each answer, from the first attempt on."""
    moved_keys: set[int] = field(default_factory=set)


class _Cut(Exception):  # noqa: N818 - what became of a connection
    """The connection is over; `had_answer`: in the middle of a response."""

    def __init__(self, *, had_answer: bool) -> None:
        self.had_answer = had_answer


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.is_open = True
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, chunk: bytes) -> None:
        self._buffer += chunk
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = self._buffer[: end + 4]
        length = _LENGTH.search(head)
        if len(self._buffer) >= len(head) + (int(length[1]) if length else 0):
            self._buffer = b""
            self._answer.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Cut(had_answer=bool(self._buffer)))

    async def ask(self, request: bytes) -> bytes:
        """The head of the response."""
        if not self.is_open:
            raise _Cut(had_answer=False)
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(REPLY_S):
            head = await self._answer
        if b"\r\nconnection: close\r\n" in head.lower():
            self.close()
        return head

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True, slots=True)
class Clients:
    """`count` clients that make `pace_per_s` requests together.

    Attributes:
        ports: of all nodes, whether or not they run.
        sessions: how many there are; each request draws one.
        backend_of: the backend of a session.
        name_of: the session as the client sends it.
    """

    ports: Sequence[int]
    sessions: int
    backend_of: Callable[[int], str]
    name_of: Callable[[int], str]
    pace_per_s: int
    count: int = 64

    async def run(self, tally: Tally, is_over: Callable[[], bool]) -> None:
        """Ask until `is_over`."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.count):
                group.create_task(self._client(tally, is_over, random.Random(number)))

    async def _client(self, tally: Tally, is_over: Callable[[], bool], rng: random.Random) -> None:
        kept: dict[int, _Connection] = {}
        every_s = self.count / self.pace_per_s
        due = time.monotonic() + rng.random() * every_s
        while not is_over():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + every_s, time.monotonic() - every_s)  # what is missed is not made up
            await self._ask(tally, kept, rng)
        for connection in kept.values():
            connection.close()

    async def _ask(self, tally: Tally, kept: dict[int, _Connection], rng: random.Random) -> None:
        session = rng.randrange(self.sessions)
        name = self.name_of(session).encode()
        request = b"GET / HTTP/1.1\r\nHost: app.test\r\nX-Session: " + name + b"\r\n\r\n"
        begin = time.monotonic()
        ports = rng.sample(self.ports, len(self.ports)) * TRIES_MAX
        for port in ports[: TRIES_MAX * len(self.ports)]:
            try:
                head = await self._try(kept, port, request)
            except OSError:
                tally.turned_away += 1
            except _Cut as cut:
                if cut.had_answer:
                    break
                tally.again += 1
            except TimeoutError:
                break
            else:
                tally.took_s.append(time.monotonic() - begin)
                self._note(tally, session, head)
                return
        tally.failed += 1

    async def _try(self, kept: dict[int, _Connection], port: int, request: bytes) -> bytes:
        connection = kept.get(port)
        if connection is None or not connection.is_open:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
            kept[port] = connection
        return await connection.ask(request)

    def _note(self, tally: Tally, session: int, head: bytes) -> None:
        backend = _BACKEND.search(head)
        if int(head[9:12]) != OK or backend is None:
            tally.failed += 1
            return
        tally.answered += 1
        if backend[1].decode() != self.backend_of(session):
            tally.moved += 1
            tally.moved_keys.add(session)
