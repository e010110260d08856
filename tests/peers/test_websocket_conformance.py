"""WebSockets of two foreign libraries through a node: `ws` of Node.js, and Python's `websockets`.

Each is client and server of itself and of the other one. They try subprotocols, compression,
fragments with a ping between them, a message of 16 MiB, pings both ways, and closing from both
sides with a code and a reason; a node that minded any of the bytes would be found out.
"""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers.backends.websocket import try_all
from tests.peers.conftest import StartMesh
from tests.peers.harness import backends, socketio
from tests.peers.harness.backends import Backend, python_backend
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import fetch
from tests.peers.harness.mesh import COOKIE
from tests.peers.harness.ports import free_port

SCRIPT = str(socketio.FOLDER / "websocket.mjs")
SEEN = {
    "protocol": "b",
    "extension": "permessage-deflate",
    "echoes": [True] * 4,
    "large": True,
    "pong": "between fragments",
    "fragmented": "one two three",
    "ponged": "ponged from the server",
    "closed": [4001, "as asked"],
}
CLOSES = [[4002, "enough"], [1006, ""], [4001, "as asked"]]


def server(kind: str, root: Path) -> Backend:
    if kind == "websockets":
        return python_backend("websocket", "s1", root)
    folder, port = root / "s1", free_port()
    folder.mkdir()
    return Backend("s1", [backends.tool("node"), SCRIPT, "server", str(port)], folder, port)


def seen_by(kind: str, url: str) -> dict[str, Any]:
    if kind == "websockets":
        return asyncio.run(try_all(url))
    node = subprocess.run(
        ["node", SCRIPT, "client", url], capture_output=True, text=True, timeout=60, check=False
    )
    assert node.returncode == 0, node.stderr
    return dict(json.loads(node.stdout))


@pytest.mark.parametrize("listener", ["http", "tcp"])
@pytest.mark.parametrize("serves", ["ws", "websockets"])
def test_two_libraries_see_each_other_as_if_nothing_was_between_them(
    serves: str, listener: str, tmp_path: Path, start_mesh: StartMesh
) -> None:
    socketio.install()
    backend = server(serves, tmp_path)
    backends.start([backend])
    sticky = [COOKIE] if listener == "http" else []
    mesh = start_mesh(backends=[backend], size=1, sticky=sticky, protocol=listener)
    (node,) = mesh.nodes

    for client in ("ws", "websockets"):
        assert seen_by(client, f"ws://127.0.0.1:{node.port}") == SEEN

    def closes() -> list[Any]:
        return list(json.loads(asyncio.run(fetch(backend.port, "/closes")).body))

    wait_until(lambda: sorted(closes()) == sorted(2 * CLOSES), "the server has seen every end")
    wait_until(lambda: node.metric("meshlb_connections", kind="tunnels") == 0, "tunnels have ended")
