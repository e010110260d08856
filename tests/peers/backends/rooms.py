"""A Socket.IO backend whose rooms live in its memory, as python-socketio's default has them.

Run as `python -m tests.peers.backends.rooms --name NAME --port PORT`. A client that reaches
another process than the one that opened its session gets `Invalid session`, which is what a
proxy without stickiness gives Socket.IO applications.
"""

import argparse
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

import socketio
import uvicorn


def application(name: str) -> socketio.ASGIApp:
    """An app that counts each user's visits and words, in memory, and has a room per user."""
    rooms = socketio.AsyncServer(
        async_mode="asgi",
        cors_allowed_origins=[],
        ping_timeout=180,  # A busy machine takes its time.
    )
    visits: Counter[str] = Counter()
    words: Counter[str] = Counter()

    @rooms.event  # type: ignore[untyped-decorator]  # python-socketio has no types
    async def connect(sid: str, environ: dict[str, Any], auth: object) -> None:
        user = parse_qs(environ["QUERY_STRING"])["user"][0]
        visits[user] += 1
        await rooms.save_session(sid, {"user": user})
        await rooms.enter_room(sid, f"of {user}")
        await rooms.emit("welcome", {"backend": name, "visits": visits[user]}, to=sid)

    @rooms.event  # type: ignore[untyped-decorator]  # python-socketio has no types
    async def say(sid: str, text: str) -> dict[str, object]:
        user = (await rooms.get_session(sid))["user"]
        words[user] += 1
        await rooms.emit("said", {"backend": name, "text": text}, room=f"of {user}")
        return {"backend": name, "words": words[user]}

    return socketio.ASGIApp(rooms)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        application(arguments.name), host="127.0.0.1", port=arguments.port, log_level="warning"
    )
