"""The demo's backends in this process, without a mesh in between."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework

from meshlb.demo.backend import Room, build_app

NODES = {"lb-1": "127.0.0.1:8080", "lb-2": "127.0.0.1:8081"}


@asynccontextmanager
async def backends(*names: str) -> AsyncIterator[dict[str, str]]:
    """Serve a backend for each name; yields their addresses."""
    addresses: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for name in names:
            config = Config()
            config.bind = ["127.0.0.1:0"]
            config.errorlog = None
            app = cast("ASGIFramework", build_app(Room(name, NODES)))
            (bound,) = await nursery.start(serve, app, config)
            addresses[name] = bound.removeprefix("http://")
        yield addresses
        nursery.cancel_scope.cancel()
