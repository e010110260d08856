"""A node without a table joins two that have a million pins: how long, and who notices?

`python -m tests.bench.join [--pins N] [--rounds N]`

`ready` is from the start of the process until /readyz says so, `copied` the part of it from the
first word of a member; the process's own start is the rest. Then the tables are compared record
by record. `lag` is the worst that the nodes' own metric has shown: a ticker that wakes every
50 ms says how late it was, so of a single stall it sees what is left at its next tick. `bytes a
pin` is the growth of resident memory (of which the table itself, a file mapped into memory and
shared with whoever else maps it, is a part) against a node of an empty cluster, over the pins.
`again` is the time until /readyz of a node that was killed and comes back with its table.
"""

import argparse
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.rig import Column, median_columns, print_table, running
from tests.peers.harness import backends, tables
from tests.peers.harness.mesh import HEADER, Mesh, Node, Plan, new_secret

PINS = 1_000_000
POLL_S = 0.01
PATIENCE_S = 120.0
SETTLE_S = 3.0
BACKENDS = ("s1", "s2", "s3")

COLUMNS = [
    Column("ready s", digits=2),
    Column("copied s", digits=2),
    Column("again s", digits=2),
    Column("lag giver ms"),
    Column("lag joiner ms"),
    Column("bytes a pin, giver", digits=0),
    Column("joiner", digits=0),
    Column("not in the file", digits=0),
    Column("differ", digits=0),
]


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
    print_table(
        f"{arguments.pins:,} pins to an empty node", COLUMNS, {"meshlb": median_columns(rounds)}
    )
    for figures in rounds:
        print(
            "  ".join(f"{c.title} {f:,.{c.digits}f}" for c, f in zip(COLUMNS, figures, strict=True))
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a process."""

    total: int
    private: int
    """Without what is mapped from files."""

    @classmethod
    def of(cls, pid: int) -> "Memory":
        status = Path(f"/proc/{pid}/status").read_text()
        total, file = (
            int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]  # there
            for name in ("VmRSS", "RssFile")
        )
        return cls(total, total - file)


def idle_memory(mesh: Mesh) -> Memory:
    """What a node of three takes that has no pins."""
    with running(*((node, node.port) for node in mesh.nodes)):
        mesh.wait_ready()
        time.sleep(SETTLE_S)
        return Memory.of(mesh.nodes[0].pid)


def join(mesh: Mesh, table: Path, pins: int, empty: Memory) -> list[float]:
    """Figures in the order of `COLUMNS`."""
    *givers, joiner = mesh.nodes
    for giver in givers:
        tables.copy(table, giver.folder / "state")
    with running(*((node, node.port) for node in givers)):
        mesh.wait_ready()
        time.sleep(SETTLE_S)  # until what the start has cost is out of the metric
        with running((joiner, joiner.admin_port)):
            lags = Lags(mesh.nodes)
            ready_s = wait_ready(joiner, lags)
            lags.watch(SETTLE_S)
            giver_memory, joiner_memory = (Memory.of(n.pid) for n in (givers[0], joiner))
            copied_s = float(re.findall(r'"after_s": ([\d.]+)', joiner.output())[-1])
            joiner.kill()
            joiner.start()
            again_s = wait_ready(joiner, lags)
            for node in mesh.nodes:
                node.kill()
    read = [tables.read(node.folder / "state") for node in mesh.nodes]
    differing = sum(read[0].get(key) != record for key, record in read[2].items())
    return [
        ready_s,
        copied_s,
        again_s,
        1e3 * max(lags.worst_s[giver.name] for giver in givers),
        1e3 * lags.worst_s[joiner.name],
        (giver_memory.total - empty.total) / pins,
        (joiner_memory.total - empty.total) / pins,
        (joiner_memory.private - empty.private) / pins,
        abs(len(read[0]) - len(read[2])) + differing,
    ]


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


def wait_ready(node: Node, lags: Lags) -> float:
    """Seconds from now until the node is ready."""
    begin = time.monotonic()
    while not node.is_ready:
        if time.monotonic() - begin > PATIENCE_S:
            raise SystemExit(f"{node.name} is not ready:\n{node.output()[-3000:]}")
        time.sleep(POLL_S)
    took_s = time.monotonic() - begin
    lags.look()
    return took_s


if __name__ == "__main__":
    main()
