"""The cheapest WebSocket backend that Python can do; `python -m tests.bench.echo PORT`.

It answers the handshake, then at `/echo` every fixed message by its unmasked self, and at `/bulk`
sends as much as its client takes.
"""

import asyncio
import sys

from tests.bench.frames import FROM_BACKEND, FROM_CLIENT, upgrade_response

BULK = bytes(128 << 10)


class Echo(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._open = False
        self._flowing = True
        self._bulk = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b"pgrade: " not in head:  # a health check
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                self._buffer = rest
                return
            self._transport.write(upgrade_response(head))
            self._open, self._buffer = True, rest
            if head.startswith(b"GET /bulk "):
                self._bulk = True
                self._send_bulk()
        messages, rest_size = divmod(len(self._buffer), len(FROM_CLIENT))
        if messages:
            self._transport.write(FROM_BACKEND * messages)
            self._buffer = self._buffer[len(self._buffer) - rest_size :]

    def pause_writing(self) -> None:
        self._flowing = False

    def resume_writing(self) -> None:
        self._flowing = True
        if self._bulk:
            self._send_bulk()

    def _send_bulk(self) -> None:
        while self._flowing and not self._transport.is_closing():
            self._transport.write(BULK)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
