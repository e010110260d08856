"""How soon all nodes know a pin after its client has the answer: three real nodes.

`python -m tests.bench.visibility [--probes N] [--rate KEYS_PER_S] [--seconds S]`

A client asks one node with a new key, and the moment that it has the answer the tables of the two
others are read, again and again, until the pin is there. They are read from outside, where a node
keeps them in shared memory: what is committed there is what that node routes by. First with
nothing else to do, then while other clients bring new keys to all three nodes, `--rate` a second if
the machine keeps up with that.
"""

import argparse
import base64
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from meshlb.core.keyring import first_hash_key
from meshlb.core.sticky.extract import hash_key
from meshlb.model import ClusterSecret, KeySource, PoolName
from meshlb.store.reading import PinReader
from tests.bench.rig import Column, print_table, running
from tests.peers.harness import backends
from tests.peers.harness.backends import tool
from tests.peers.harness.mesh import HEADER, Mesh, Node, Plan, new_secret

PAUSE_S = 0.005
"""Between two probes."""

GIVE_UP_S = 5.0
LOAD_CONNECTIONS = 100
"""At each node."""

READ_BYTES = 65_536

COLUMNS = [Column(f"{name} µs", digits=0) for name in ("p50", "p90", "p99", "max")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", type=int, default=500)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=int, default=60, help="the load lasts so long at most")
    arguments = parser.parse_args()
    secret = new_secret()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        origins = [backends.nginx(f"s{number}", root) for number in (1, 2, 3)]
        stack.enter_context(running(*((origin, origin.port) for origin in origins)))
        mesh = Mesh(root, Plan(backends=origins, sticky=[HEADER], secret=secret))
        stack.enter_context(running(*((node, node.port) for node in mesh.nodes)))
        mesh.wait_ready()
        tables = [
            stack.enter_context(closing(PinReader(node.folder / "state"))) for node in mesh.nodes
        ]
        probe(mesh.nodes, tables, secret, "warm", 50)
        results = {"idle": probe(mesh.nodes, tables, secret, "idle", arguments.probes)}
        with loaded(mesh.nodes, arguments.rate, arguments.seconds):
            before, began = mesh_pins(mesh), time.perf_counter()
            figures = probe(mesh.nodes, tables, secret, "busy", arguments.probes)
            rate = (mesh_pins(mesh) - before) / (time.perf_counter() - began)
        results[f"under {rate:,.0f} new keys/s"] = figures
    print_table("from the answer until both other nodes know the pin", COLUMNS, results)


def probe(
    nodes: Sequence[Node], tables: Sequence[PinReader], secret: str, prefix: str, probes: int
) -> list[float]:
    """Figures in the order of `COLUMNS`."""
    key_secret = first_hash_key(ClusterSecret(base64.b64decode(secret)))
    took_us: list[float] = []
    with ExitStack() as stack:
        clients: list[Any] = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", node.port))))
            for node in nodes
        ]
        for number in range(probes):
            place = number % len(nodes)
            value = f"{prefix}-{number}".encode()
            key = hash_key(key_secret, PoolName("app"), KeySource.HEADER, "X-Session", value)
            others = [table for table in tables if table is not tables[place]]
            clients[place].sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Session: %b\r\n\r\n" % value)
            answer = clients[place].recv(READ_BYTES)
            answered_at = time.perf_counter()
            assert answer.startswith(b"HTTP/1.1 200"), answer
            while not all(table.get(key) for table in others):
                assert time.perf_counter() - answered_at < GIVE_UP_S, "it never becomes visible"
            took_us.append(1e6 * (time.perf_counter() - answered_at))
            time.sleep(PAUSE_S)
    cuts = statistics.quantiles(took_us, n=100)
    return [cuts[49], cuts[89], cuts[98], max(took_us)]


def mesh_pins(mesh: Mesh) -> float:
    """New pins since the start, by the nodes' own count."""
    return sum(node.metric("meshlb_pins_total", outcome="new") for node in mesh.nodes)


@contextmanager
def loaded(nodes: Sequence[Node], rate: int, seconds: int) -> Iterator[None]:
    """New keys at every node, `rate` a second in total."""
    pause_ms = 1_000 * len(nodes) * LOAD_CONNECTIONS // rate
    script = Path(__file__).with_name("keys.lua")
    argv = [tool("wrk"), "-t1", f"-c{LOAD_CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
    loads = [
        subprocess.Popen(
            [*argv, f"http://127.0.0.1:{node.port}/", "--", f"l{number}-", str(pause_ms), "0"],
            stdout=subprocess.DEVNULL,
        )
        for number, node in enumerate(nodes)
    ]
    try:
        time.sleep(1.0)
        yield
    finally:
        for load in loads:
            load.kill()
            load.wait()


if __name__ == "__main__":
    main()
