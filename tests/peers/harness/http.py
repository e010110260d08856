"""A small asyncio HTTP/1.1 client that shows the bytes as they are and repairs nothing.

It shares no code with meshlb, so it is a second opinion on framing; and it is quick enough to ask
ten thousand questions in a few seconds.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

REPLY_TIMEOUT_S = 60.0

Door = int | tuple[str, int]
"""Where a node lets clients in: a port on loopback, or an address and a port."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; field names are in lower case."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    trailers: tuple[tuple[str, str], ...] = ()

    def field(self, name: str) -> str | None:
        """The first field of that name."""
        return next((value for field, value in self.fields if field == name.lower()), None)

    @property
    def backend(self) -> str:
        """The backend's name, which all our backends send as X-Backend."""
        name = self.field("x-backend")
        assert name, f"{self.status} came from no backend: {self.body!r}"
        return name

    @property
    def cookie(self) -> str | None:
        """`name=value` of the cookie that the response sets, ready to be sent back."""
        set_cookie = self.field("set-cookie")
        return set_cookie.partition(";")[0] if set_cookie else None


class Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, door: Door) -> Self:
        host, port = door if isinstance(door, tuple) else ("127.0.0.1", door)
        return cls(*await asyncio.open_connection(host, port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def request(
        self,
        target: str = "/",
        *,
        method: str = "GET",
        fields: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Send one request with a sized body, and read its response."""
        lines = [f"{method} {target} HTTP/1.1", "Host: app.test"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        return await self.response(to_head=method == "HEAD")

    async def response(self, *, to_head: bool = False) -> Response:
        """Read the next response, its body by the framing it declares."""
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            start, *lines = head.decode("latin-1")[:-4].split("\r\n")
            status = int(start.split(" ", 2)[1])
            fields = tuple(_field(line) for line in lines)
            framing = dict(fields)
            trailers: tuple[tuple[str, str], ...] = ()
            if to_head or status in (204, 304) or status < 200:
                body = b""
            elif framing.get("transfer-encoding") == "chunked":
                body, trailers = await self._chunks()
            elif "content-length" in framing:
                body = await self.reader.readexactly(int(framing["content-length"]))
            else:
                body = await self.reader.read(-1)
            return Response(status, fields, body, trailers)

    async def _chunks(self) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        body = bytearray()
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        trailers = []
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            trailers.append(_field(line.decode("latin-1")[:-2]))
        return bytes(body), tuple(trailers)


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


async def fetch(door: Door, target: str = "/", fields: Mapping[str, str] | None = None) -> Response:
    """One GET over a connection of its own."""
    async with await Connection.open(door) as connection:
        return await connection.request(target, fields={**(fields or {}), "Connection": "close"})
