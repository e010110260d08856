"""A backend that sends every byte of an upgraded connection back, and answers other requests.

Run as `python -m tests.peers.backends.mirror --name NAME --port PORT`. It takes a handshake for a
WebSocket and no frames apart: what it sends back is what came, in the order in which it came.
"""

import argparse
import asyncio
import base64
import hashlib
import re

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = re.compile(rb"\r\nsec-websocket-key: *([^\r]+)", re.IGNORECASE)


class Mirror(asyncio.Protocol):
    """One connection."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._head = b""
        self._is_open = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._is_open:
            self._transport.write(data)
            return
        self._head += data
        while b"\r\n\r\n" in self._head and not self._is_open:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            self._transport.write(self._answer(head))
        if self._is_open and self._head:
            self._transport.write(self._head)

    def _answer(self, head: bytes) -> bytes:
        key = KEY.search(head)
        if key is None:
            body = self._name + b"\n"
            return b"HTTP/1.1 200 OK\r\nX-Backend: %b\r\nContent-Length: %d\r\n\r\n%b" % (
                self._name,
                len(body),
                body,
            )
        self._is_open = True
        accept = base64.b64encode(hashlib.sha1(key[1].strip() + GUID).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"X-Backend: %b\r\nSec-WebSocket-Accept: %b\r\n\r\n" % (self._name, accept)
        )


async def run(name: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Mirror(name.encode()), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.name, arguments.port))
