"""A WebSocket backend that names itself, remembers its users in memory, and echoes.

Run as `python -m tests.peers.backends.echo --name NAME --port PORT`. The first message of each
connection is `NAME VISITS`: how often this process has seen the `user` of the query string.
"""

import argparse
import asyncio
from collections import Counter
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response


async def run(name: str, port: int) -> None:
    visits: Counter[str] = Counter()

    async def echo(connection: ServerConnection) -> None:
        assert connection.request is not None
        user = parse_qs(urlsplit(connection.request.path).query).get("user", [""])[0]
        visits[user] += 1
        await connection.send(f"{name} {visits[user]}")
        async for message in connection:
            await connection.send(message)

    def answer_plain_http(connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        response = connection.respond(HTTPStatus.OK, f"{name}\n")
        response.headers["X-Backend"] = name
        return response

    async with serve(
        echo,
        "127.0.0.1",
        port,
        process_request=answer_plain_http,
        max_size=2**24,
        open_timeout=None,  # A busy machine takes its time.
        ping_interval=None,
    ):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.name, arguments.port))
