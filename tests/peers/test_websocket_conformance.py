"""WebSockets of two foreign libraries through a node: `ws` of Node.js, and Python's `websockets`.

Each is client and server of itself and of the other one. They try subprotocols, compression,
fragments with a ping between them, a message of 16 MiB, pings both ways, and closing from both
sides with a code and a reason; a node that minded any of the bytes would be found out. They do it
in the clear, and by TLS on both sides of the node.
"""

import asyncio
import json
import os
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.certificates import Authority, Files
from tests.peers.backends.websocket import try_all
from tests.peers.conftest import StartMesh
from tests.peers.harness import backends, socketio
from tests.peers.harness.backends import Backend, python_backend
from tests.peers.harness.child import wait_until
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


NAME = "localhost"


def server(kind: str, root: Path, files: Files | None) -> Backend:
    if kind == "websockets":
        more = [] if files is None else ["--cert", str(files.cert), "--key", str(files.key)]
        return python_backend("websocket", "s1", root, *more)
    folder, port = root / "s1", free_port()
    folder.mkdir()
    more = [] if files is None else [str(files.cert), str(files.key)]
    return Backend("s1", [backends.tool("node"), SCRIPT, "server", str(port), *more], folder, port)


def seen_by(kind: str, url: str, authority: Authority | None) -> dict[str, Any]:
    if kind == "websockets":
        return asyncio.run(try_all(url, trust(authority)))
    env = {} if authority is None else {"NODE_EXTRA_CA_CERTS": str(authority.ca)}
    node = subprocess.run(
        ["node", SCRIPT, "client", url],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert node.returncode == 0, node.stderr
    return dict(json.loads(node.stdout))


def trust(authority: Authority | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=authority.ca) if authority is not None else None


def closes_of(backend: Backend, authority: Authority | None) -> list[Any]:
    scheme = "http" if authority is None else "https"
    url = f"{scheme}://{NAME}:{backend.port}/closes"
    with urllib.request.urlopen(url, timeout=60, context=trust(authority)) as response:
        return list(json.load(response))


@pytest.mark.parametrize("listener", ["http", "tcp", "https"])
@pytest.mark.parametrize("serves", ["ws", "websockets"])
def test_two_libraries_see_each_other_as_if_nothing_was_between_them(
    serves: str, listener: str, tmp_path: Path, start_mesh: StartMesh
) -> None:
    """`https`: clients come by TLS, and so does the node to the backend."""
    socketio.install()
    authority = Authority(tmp_path) if listener == "https" else None
    files = authority.sign("both", names=(NAME,)) if authority is not None else None
    backend = server(serves, tmp_path, files)
    backends.start([backend])
    plan: dict[str, Any] = {"sticky": [], "protocol": "tcp"}
    if listener != "tcp":
        plan = {"sticky": [COOKIE]}
    if authority is not None and files is not None:
        plan["listener"] = f'tls = {{ cert = "{files.cert}", key = "{files.key}" }}'
        plan["pool"] = f'tls = {{ ca = "{authority.ca}", server_name = "{NAME}" }}'
    mesh = start_mesh(backends=[backend], size=1, **plan)
    (node,) = mesh.nodes

    scheme = "ws" if authority is None else "wss"
    for client in ("ws", "websockets"):
        assert seen_by(client, f"{scheme}://{NAME}:{node.port}", authority) == SEEN

    wait_until(
        lambda: sorted(closes_of(backend, authority)) == sorted(2 * CLOSES),
        "the server has seen every end",
    )
    wait_until(lambda: node.metric("meshlb_connections", kind="tunnels") == 0, "tunnels have ended")
