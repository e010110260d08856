"""A tier with a million sessions is restarted node by node under load: who is misrouted?

`python -m tests.bench.restart [--pins N] [--pace N] [--without-haproxy]`

Three nodes of meshlb, each with its table on disk, and three of HAProxy whose stick tables are
peers, both with the same sessions. Clients come back with known sessions through all three nodes
(`tests.bench.returning`) while one node after the other is stopped as its operator would (SIGTERM;
HAProxy: SIGUSR1, which lets it finish what is under way) and started again, the next one
`PAUSE_S` after that one accepts clients. In a second pass each is killed instead.

`moved` are requests that another backend than the session's has answered, `sessions` how many
sessions that were, `later` how many of `LOOKED_AT` sessions are with another backend once all is
over. `failed`: answers cut off, errors, or no node at all. `again`: sent again because a kept
connection was closed without an answer. `ready` is from the start of a process until it accepts
clients; the median of three.
"""

import argparse
import asyncio
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.memory import Memory
from tests.bench.race import haproxy_peers
from tests.bench.returning import Clients, Tally
from tests.bench.rig import Column, print_table, running
from tests.peers.harness import backends, tables
from tests.peers.harness.backends import Backend, accepts
from tests.peers.harness.background import in_background
from tests.peers.harness.child import Child, wait_until
from tests.peers.harness.mesh import HEADER, Mesh, Plan, new_secret

PINS = 1_000_000
PACE_PER_S = 4_000
SETTLE_S = 3.0
PAUSE_S = 3.0
STOP_S_MAX = 20.0
START_S_MAX = 60.0
LOOKED_AT = 20_000
LOOK_PER_S = 20_000
"""More than the machine takes: as fast as it goes."""

BACKENDS = ("s1", "s2", "s3")
CLI_BATCH = 100

COLUMNS = [
    Column("requests", digits=0),
    Column("moved", digits=0),
    Column("sessions", digits=0),
    Column("later", digits=0),
    Column("failed", digits=0),
    Column("again", digits=0),
    Column("ready s", digits=2),
    Column("p99 ms"),
]

MEMORY_COLUMNS = [Column(title, digits=0) for title in ("heap", "table", "bytes a pin")]

Figures = dict[str, list[float]]
"""By row, in the order of the columns."""

Stop = Callable[[Child], None]


Nodes = Sequence[tuple[Child, int]]
"""Nodes of one kind, and the ports at which they let clients in."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pins", type=int, default=PINS)
    parser.add_argument("--pace", type=int, default=PACE_PER_S, help="requests a second in total")
    parser.add_argument("--without-haproxy", action="store_true")
    arguments = parser.parse_args()
    pins, pace = arguments.pins, arguments.pace
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        origins = [backends.nginx(name, root) for name in BACKENDS]
        with running(*((origin, origin.port) for origin in origins)):
            if not arguments.without_haproxy:
                results |= haproxy_trials(root, origins, pins, pace)
            ours, memory = meshlb_trials(root, origins, pins, pace)
    results |= ours
    print_table(f"{pins:,} sessions, three nodes restarted or killed one by one", COLUMNS, results)
    print_table("memory of a node after that, bytes a pin", MEMORY_COLUMNS, memory)


def haproxy_trials(root: Path, origins: list[Backend], pins: int, pace: int) -> Figures:
    """HAProxy nodes that are peers."""
    nodes = haproxy_peers(root, origins, size=2 * pins, has_cli=True)
    with running(*nodes):
        fill_haproxy(root / "haproxy-1.sock", pins)
        return {
            "haproxy, restarted": trial(nodes, stop_haproxy, pins, pace),
            "haproxy, killed": trial(nodes, Child.kill, pins, pace),
        }


def meshlb_trials(
    root: Path, origins: list[Backend], pins: int, pace: int
) -> tuple[Figures, Figures]:
    """Nodes of meshlb, and what each takes for its pins in the end."""
    plan = Plan(backends=origins, sticky=[HEADER], secret=new_secret())
    table = root / "table"
    tables.fill(table, pins, secret=plan.secret, backends=BACKENDS)
    empty = idle_memory(Mesh(root / "empty", plan))
    mesh = Mesh(root / "mesh", plan)
    for node in mesh.nodes:
        tables.copy(table, node.folder / "state")
    nodes = [(node, node.port) for node in mesh.nodes]
    with running(*nodes):
        mesh.wait_ready()
        figures = {
            "restarted": trial(nodes, stop_meshlb, pins, pace),
            "killed": trial(nodes, Child.kill, pins, pace),
        }
        return figures, {node.name: Memory.of(node).over(empty, pins) for node in mesh.nodes}


def trial(nodes: Nodes, stop: Stop, pins: int, pace: int) -> list[float]:
    """Stop and start each node under load; figures in the order of `COLUMNS`."""
    ports = [port for _, port in nodes]
    clients = Clients(ports, pins, backend_of, tables.session, pace)
    tally, ready_s = Tally(), []
    with in_background(lambda is_over: clients.run(tally, is_over)):
        time.sleep(SETTLE_S)
        for node, port in nodes:
            stop(node)
            begin = time.monotonic()
            node.start()
            wait_until(lambda port=port: accepts(port), "it accepts", timeout_s=START_S_MAX)  # type: ignore[misc]  # bound
            ready_s.append(time.monotonic() - begin)
            time.sleep(PAUSE_S)
    later = asyncio.run(look(clients))
    return [
        tally.answered + tally.failed,
        tally.moved,
        len(tally.moved_keys),
        later,
        tally.failed,
        tally.again,
        statistics.median(ready_s),
        1e3 * statistics.quantiles(tally.took_s, n=100)[98],
    ]


def backend_of(session: int) -> str:
    return tables.backend_of(session, BACKENDS)


async def look(clients: Clients) -> int:
    """How many of `LOOKED_AT` sessions are with another backend than theirs."""
    tally = Tally()
    await replace(clients, pace_per_s=LOOK_PER_S).run(
        tally, lambda: tally.answered + tally.failed >= LOOKED_AT
    )
    return tally.moved


def stop_meshlb(node: Child) -> None:
    node.terminate(timeout_s=STOP_S_MAX)


def stop_haproxy(node: Child) -> None:
    node.signal(signal.SIGUSR1)
    node.wait(timeout_s=STOP_S_MAX)


def idle_memory(mesh: Mesh) -> Memory:
    """What a node of three takes that has no pins."""
    with running(*((node, node.port) for node in mesh.nodes)):
        mesh.wait_ready()
        time.sleep(SETTLE_S)
        return Memory.of(mesh.nodes[0])


def fill_haproxy(path: Path, pins: int) -> None:
    """Write the sessions into the table of one node, which tells its peers."""
    for first in range(0, pins, CLI_BATCH):
        numbers = range(first, min(pins, first + CLI_BATCH))
        words = ";".join(
            f"set table app key {tables.session(n)} data.server_id {1 + n % len(BACKENDS)}"
            for n in numbers
        )
        with socket.socket(socket.AF_UNIX) as cli:
            cli.connect(str(path))
            cli.sendall(words.encode() + b"\n")
            while cli.recv(65_536):
                """Until all is done."""
    time.sleep(SETTLE_S)


if __name__ == "__main__":
    main()
