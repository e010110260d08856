"""A demo backend: a chat that remembers its visitors in memory, and nowhere else.

Run as `python -m meshlb.demo.backend --name s1 --port 9001 --node lb-1=127.0.0.1:8080 …`. It is
what meshlb exists for: whoever comes back to another backend finds nothing of what was said.
"""

import argparse
import json
import os
import time
from collections import deque
from importlib.resources import files
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

HISTORY_MAX: Final = 200
TEXT_CHARACTERS_MAX: Final = 500
MESSAGE_BYTES_MAX: Final = 16_384
OUTBOX_MAX: Final = 256
"""Messages that wait for a slow visitor; one that is slower still is let go."""
VISITORS_MAX: Final = 10_000
VISITOR_COOKIE: Final = "visitor"

Message = dict[str, Any]


class Room:
    """All that this backend knows, until the process ends."""

    def __init__(self, name: str, nodes: dict[str, str]) -> None:
        self.name = name
        self.boot = os.urandom(4).hex()
        """Tells this process from the next one of the same name, which remembers nothing."""
        self.nodes = nodes
        self.history: deque[Message] = deque(maxlen=HISTORY_MAX)
        self.said: dict[str, int] = {}
        """How many messages of each visitor this process has heard."""
        self.outboxes: set[trio.MemorySendChannel[Message]] = set()

    def about(self, request: HTTPConnection) -> Message:
        """Who answers, and through which node the question came."""
        address = request.headers.get("x-forwarded-host", "")
        port = address.rpartition(":")[2]
        node = next((name for name, at in self.nodes.items() if at.endswith(f":{port}")), address)
        return {"backend": self.name, "boot": self.boot, "node": node, "nodes": self.nodes}

    def say(self, visitor: str, text: str) -> None:
        """Remember a message and pass it to everybody here."""
        if visitor not in self.said and len(self.said) >= VISITORS_MAX:
            self.said.pop(next(iter(self.said)))
        self.said[visitor] = self.said.get(visitor, 0) + 1
        message = {
            "type": "message",
            "who": visitor,
            "text": text,
            "at": round(time.time(), 1),
            "said": self.said[visitor],
        }
        self.history.append(message)
        self.tell_all(message)

    def tell_all(self, message: Message) -> None:
        """Put a message in every outbox; a full one is closed, and its visitor reconnects."""
        for outbox in tuple(self.outboxes):
            try:
                outbox.send_nowait(message)
            except trio.WouldBlock:
                self.outboxes.discard(outbox)
                outbox.close()


def visitor_of(connection: HTTPConnection) -> str:
    """The visitor's own name for itself; a new one where it has none."""
    given = connection.cookies.get(VISITOR_COOKIE, "")
    return given if given.isalnum() and len(given) <= 32 else os.urandom(4).hex()


def build_app(room: Room) -> Starlette:
    """The pages and the chat of one backend."""

    async def page(request: Request) -> Response:
        text = files("meshlb.demo").joinpath("chat.html").read_text(encoding="utf-8")
        response = HTMLResponse(text, headers={"Cache-Control": "no-store"})
        response.set_cookie(VISITOR_COOKIE, visitor_of(request), samesite="lax")
        return response

    async def about(request: Request) -> Response:
        return JSONResponse(room.about(request), headers={"Cache-Control": "no-store"})

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def chat(socket: WebSocket) -> None:
        await _chat(room, socket)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/about", about),
            Route("/healthz", healthz),
            WebSocketRoute("/chat", chat),
        ]
    )


async def _chat(room: Room, socket: WebSocket) -> None:
    visitor = visitor_of(socket)
    await socket.accept()
    outbox, inbox = trio.open_memory_channel[Message](OUTBOX_MAX)
    welcome = {
        "type": "welcome",
        **room.about(socket),
        "visitor": visitor,
        "remembered": room.said.get(visitor, 0),
        "history": list(room.history),
    }
    outbox.send_nowait(welcome)
    room.outboxes.add(outbox)
    room.tell_all({"type": "present", "count": len(room.outboxes)})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write, socket, inbox)
            await _read(room, visitor, socket)
            nursery.cancel_scope.cancel()
    finally:
        room.outboxes.discard(outbox)
        room.tell_all({"type": "present", "count": len(room.outboxes)})


async def _read(room: Room, visitor: str, socket: WebSocket) -> None:
    while True:
        try:
            text = json.loads(await socket.receive_text())["text"]
        except WebSocketDisconnect:
            return
        except (ValueError, KeyError, TypeError):
            await socket.close(1003)
            return
        room.say(visitor, str(text)[:TEXT_CHARACTERS_MAX])


async def _write(socket: WebSocket, inbox: trio.MemoryReceiveChannel[Message]) -> None:
    async for message in inbox:
        await socket.send_text(json.dumps(message))
    await socket.close(1013)


def main() -> None:
    """Serve until killed or interrupted."""
    parser = argparse.ArgumentParser(description="A demo backend of meshlb.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--node", action="append", default=[], metavar="NAME=ADDRESS")
    given = parser.parse_args()
    nodes = dict(node.split("=", 1) for node in given.node)
    config = Config()
    config.bind = [f"127.0.0.1:{given.port}"]
    config.errorlog = None
    config.keep_alive_timeout = 75.0
    config.keep_alive_max_requests = 1_000_000
    config.websocket_max_message_size = MESSAGE_BYTES_MAX
    app = cast("ASGIFramework", build_app(Room(given.name, nodes)))
    trio.run(serve, app, config)


if __name__ == "__main__":
    main()
