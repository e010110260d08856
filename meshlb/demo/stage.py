"""What stands on the stage: nodes and backends as children, with their addresses and files.

Owns the layout of a demo's directory and the configuration of its nodes. It must not know what
happens to them later (see `director`).
"""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshlb.config import parse
from meshlb.demo.child import Child
from meshlb.demo.ports import LOOPBACK, Ports

ADMIN_PORT: Final = 7900
CLUSTER_PORT: Final = 7946
BACKEND_PORT: Final = 9001
POOL: Final = "chat"

CONFIG: Final = """\
[node]
name = "{name}"
data_dir = "{data_dir}"
shutdown_timeout = "3s"

[cluster]
name = "demo"
bind = "{cluster}"
join = [{join}]
secrets = ["{secret}"]
profile = "local"

[admin]
bind = "{admin}"

[[listener]]
name = "web"
bind = "{http}"
pool = "{pool}"

[pool.{pool}]
sticky = [{{ by = "cookie" }}]

[pool.{pool}.health]
path = "/healthz"
interval = "500ms"
timeout = "2s"
rise = 1
fall = 3
"""

BACKEND: Final = """
[[pool.{pool}.backend]]
name = "{name}"
address = "{address}"
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A node's process, and where it listens."""

    child: Child
    http: str
    admin: str
    cluster: str

    @property
    def name(self) -> str:
        """The node's name."""
        return self.child.name


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend's process, and where it listens."""

    child: Child
    address: str

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.child.name


@dataclass(frozen=True, slots=True)
class Stage:
    """All nodes and backends of a demo, none of them started."""

    nodes: tuple[Node, ...]
    backends: tuple[Backend, ...]

    @property
    def children(self) -> tuple[Child, ...]:
        """The nodes first: they are stopped while their backends still answer."""
        nodes = [node.child for node in self.nodes]
        return (*nodes, *(backend.child for backend in self.backends))


def build(directory: Path, *, nodes: int, backends: int, port: int) -> Stage:
    """Choose ports and write every file into `directory`; the first node gets `port` if free.

    Raises:
        ListenError: there are not enough free ports.
    """
    ports = Ports()
    names = [f"lb-{number}" for number in range(1, nodes + 1)]
    http = {name: _address(ports, port) for name in names}
    admin = {name: _address(ports, ADMIN_PORT) for name in names}
    cluster = {name: _address(ports, CLUSTER_PORT) for name in names}
    known = [f"--node={name}={address}" for name, address in http.items()]
    troupe = [
        _backend(directory, f"s{number}", _address(ports, BACKEND_PORT), known)
        for number in range(1, backends + 1)
    ]
    secret = base64.b64encode(os.urandom(32)).decode()
    made = []
    for name in names:
        text = CONFIG.format(
            name=name,
            data_dir=directory / f"{name}.pins",
            cluster=cluster[name],
            join=", ".join(f'"{address}"' for address in cluster.values()),
            secret=secret,
            admin=admin[name],
            http=http[name],
            pool=POOL,
        )
        for backend in troupe:
            text += BACKEND.format(pool=POOL, name=backend.name, address=backend.address)
        child = _node(directory, name, text)
        made.append(Node(child, http[name], admin[name], cluster[name]))
    return Stage(tuple(made), tuple(troupe))


def _address(ports: Ports, first: int) -> str:
    return f"{LOOPBACK}:{ports.take(first)}"


def _backend(directory: Path, name: str, address: str, known: list[str]) -> Backend:
    port = address.rpartition(":")[2]
    arguments = ["meshlb.demo.backend", "--name", name, "--port", port, *known]
    return Backend(Child(name, arguments, directory / f"{name}.log"), address)


def _node(directory: Path, name: str, text: str) -> Child:
    parse(text, directory=directory)
    config = directory / f"{name}.toml"
    config.touch(mode=0o600)
    config.write_text(text, encoding="utf-8")
    return Child(name, ["meshlb", "run", str(config)], directory / f"{name}.log")
