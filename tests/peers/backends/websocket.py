"""Both ends of WebSockets by the library `websockets`, the counterpart of `websocket.mjs`.

Run as `python -m tests.peers.backends.websocket --name NAME --port PORT [--cert FILE --key FILE]`;
what it serves, and what `try_all` tries as a client, is said there.
"""

import argparse
import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

LARGE_BYTES = 16 * 2**20
PROTOCOLS = [Subprotocol("a"), Subprotocol("b")]
PATIENT: dict[str, Any] = {"open_timeout": None, "ping_interval": None}
"""A busy machine takes its time."""


async def run(port: int, tls: ssl.SSLContext | None) -> None:
    closes: list[tuple[int, str]] = []

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        try:
            if path == "/ping":
                await (await connection.ping("from the server"))
                await connection.send("ponged from the server")
            async for message in connection:
                if path == "/close":
                    await connection.close(4001, "as asked")
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            await connection.wait_closed()
            closes.append((connection.close_code or 1006, connection.close_reason or ""))

    def answer_plain_http(connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        return connection.respond(HTTPStatus.OK, json.dumps(closes))

    async with serve(
        handle,
        "127.0.0.1",
        port,
        process_request=answer_plain_http,
        subprotocols=PROTOCOLS[1:],
        max_size=2 * LARGE_BYTES,
        ssl=tls,
        **PATIENT,
    ):
        await asyncio.get_running_loop().create_future()


async def try_all(url: str, trust: ssl.SSLContext | None = None) -> dict[str, Any]:
    """What a client sees of a server; `trust` is for `wss`."""
    saw: dict[str, Any] = {}
    options = {**PATIENT, "subprotocols": PROTOCOLS, "ssl": trust}
    async with connect(f"{url}/echo", max_size=2 * LARGE_BYTES, **options) as echo:
        assert echo.response is not None
        saw["protocol"] = echo.subprotocol
        saw["extension"] = echo.response.headers["Sec-WebSocket-Extensions"].partition(";")[0]
        saw["echoes"] = [await said_back(echo, t) for t in ("", "short", "ä" * 100, "x" * 70_000)]
        saw["large"] = await said_back(echo, (bytes(range(251)) * 66_842)[:LARGE_BYTES])
        saw["pong"], saw["fragmented"] = await fragments(echo)
        await echo.close(4002, "enough")
    ping = await connect(f"{url}/ping", **options)
    saw["ponged"] = await ping.recv()
    ping.transport.abort()
    async with connect(f"{url}/close", **options) as closing:
        await closing.send("close")
        await closing.wait_closed()
        saw["closed"] = [closing.close_code, closing.close_reason]
    return saw


async def said_back(connection: ClientConnection, message: str | bytes) -> bool:
    await connection.send(message)
    return await connection.recv() == message


async def fragments(connection: ClientConnection) -> tuple[str, str | bytes]:
    """A message in three parts with a ping between them: what was ponged, and what came back."""
    ponged: list[asyncio.Future[float]] = []

    async def parts() -> AsyncIterator[str]:
        yield "one "
        ponged.append(await connection.ping("between fragments"))  # type: ignore[arg-type]  # an awaitable of the latency
        yield "two "
        yield "three"

    await connection.send(parts())
    message = await connection.recv()
    await ponged[0]
    return "between fragments", message


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    tls = None
    if arguments.cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.cert, arguments.key)
    asyncio.run(run(arguments.port, tls))
