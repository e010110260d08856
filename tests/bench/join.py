"""A node without a table joins two that have a million pins: how long, and who notices?

`python -m tests.bench.join [--pins N] [--rounds N]`

`ready` is from the start of the process until /readyz says so. `equal` is the part of it from when
the node takes part until it holds the whole table, and serves from it; the rest is the start of
Python. Then the tables are compared record by record (`differ`). `again` is `ready` of a node that
was killed and comes back with its table.

`lag` is the worst that the nodes' own metric has shown: a ticker that wakes every 50 ms says how
late it was, so of a single stall it sees what is left at its next tick. `CPU` is what the copy has
cost each side, for the joiner with its start: unlike times it hardly depends on other load.

The second table is memory, see `tests.bench.memory`: of a node whose table has grown, and of one
that has copied it.
"""

import argparse
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.memory import Memory
from tests.bench.rig import Column, CpuTime, median_columns, print_table, running
from tests.peers.harness import backends, tables
from tests.peers.harness.mesh import HEADER, Mesh, Node, Plan, new_secret

PINS = 1_000_000
POLL_S = 0.01
PATIENCE_S = 120.0
SETTLE_S = 3.0
BACKENDS = ("s1", "s2", "s3")

COLUMNS = [
    Column("ready s", digits=2),
    Column("equal s", digits=2),
    Column("again s", digits=2),
    Column("lag giver ms"),
    Column("lag joiner ms"),
    Column("CPU giver s", digits=2),
    Column("CPU joiner s", digits=2),
    Column("differ", digits=0),
]

MEMORY_COLUMNS = [Column(title, digits=0) for title in ("heap", "table", "bytes a pin")]


@dataclass(slots=True)
class Joined:
    """One round; `figures` in the order of `COLUMNS`, memory in that of `MEMORY_COLUMNS`."""

    figures: list[float]
    grown: list[float] = field(default_factory=list)
    copied: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pins", type=int, default=PINS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    secret = new_secret()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        origins = [backends.nginx(name, root) for name in BACKENDS]
        table = root / "table"
        tables.fill(table, arguments.pins, secret=secret, backends=BACKENDS)
        with running(*((origin, origin.port) for origin in origins)):
            plan = Plan(backends=origins, sticky=[HEADER], secret=secret)
            empty = idle_memory(Mesh(root / "empty", plan))
            rounds = [
                join(Mesh(root / f"round-{number}", plan), table, arguments.pins, empty)
                for number in range(arguments.rounds)
            ]
    medians = {"meshlb": median_columns([joined.figures for joined in rounds])}
    print_table(f"{arguments.pins:,} pins to an empty node", COLUMNS, medians)
    for joined in rounds:
        told = zip(COLUMNS, joined.figures, strict=True)
        print("  ".join(f"{column.title} {figure:,.{column.digits}f}" for column, figure in told))
    memory = {
        "table that has grown": median_columns([joined.grown for joined in rounds]),
        "table that was copied": median_columns([joined.copied for joined in rounds]),
    }
    print_table("memory of all processes of a node, bytes a pin", MEMORY_COLUMNS, memory)


def idle_memory(mesh: Mesh) -> Memory:
    """What a node of three takes that has no pins."""
    with running(*((node, node.port) for node in mesh.nodes)):
        mesh.wait_ready()
        time.sleep(SETTLE_S)
        return Memory.of(mesh.nodes[0])


def join(mesh: Mesh, table: Path, pins: int, empty: Memory) -> Joined:
    """One round."""
    *givers, joiner = mesh.nodes
    for giver in givers:
        tables.copy(table, giver.folder / "state")
    with running(*((node, node.port) for node in givers)):
        mesh.wait_ready()
        time.sleep(SETTLE_S)  # until what the start has cost is out of the metric
        lags = Lags(mesh.nodes)
        before = [CpuTime.of(giver.pid) for giver in givers]
        try:
            ready_s = start(joiner, lags)
            spent = [CpuTime.of(giver.pid) - cpu for giver, cpu in zip(givers, before, strict=True)]
            joiner_cpu = CpuTime.of(joiner.pid)
            lags.watch(SETTLE_S)
            grown, copied = (Memory.of(node).over(empty, pins) for node in (givers[0], joiner))
            equal_s = float(re.findall(r'"after_s": ([\d.]+)', joiner.output())[-1])
            joiner.kill()
            again_s = start(joiner, lags)
        finally:
            joiner.kill()
    read = [tables.read(node.folder / "state") for node in mesh.nodes]
    differing = sum(read[0].get(key) != record for key, record in read[2].items())
    figures = [
        ready_s,
        equal_s,
        again_s,
        1e3 * max(lags.worst_s[giver.name] for giver in givers),
        1e3 * lags.worst_s[joiner.name],
        max(cpu.total_s for cpu in spent),
        joiner_cpu.total_s,
        abs(len(read[0]) - len(read[2])) + differing,
    ]
    return Joined(figures, grown, copied)


class Lags:
    """The worst lag that each node has shown while it was looked at."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self.worst_s = {node.name: 0.0 for node in nodes}

    def look(self) -> None:
        for node in self._nodes:
            try:
                lag_s = node.metric("meshlb_loop_lag_seconds")
            except OSError:
                continue  # it has not opened its port yet
            self.worst_s[node.name] = max(self.worst_s[node.name], lag_s)

    def watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(POLL_S)


def start(node: Node, lags: Lags) -> float:
    """Start a node; seconds until it is ready."""
    begin = time.monotonic()
    node.start()
    while not node.is_ready:
        if time.monotonic() - begin > PATIENCE_S:
            raise SystemExit(f"{node.name} is not ready:\n{node.output()[-3000:]}")
        time.sleep(POLL_S)
    took_s = time.monotonic() - begin
    lags.look()
    return took_s


if __name__ == "__main__":
    main()
