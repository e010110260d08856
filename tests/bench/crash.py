"""How long a crash takes to be known to all, on real processes.

`python -m tests.bench.crash [--nodes 3 5] [--trials 10]`

A node in turn gets a SIGKILL; measured is the time until every other one says that it is dead, and
whether anybody else was. Simulated trials, of larger clusters too, are `tests.sim.membership`.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rig import Column, print_table
from tests.peers.harness import backends
from tests.peers.harness.child import Child, wait_until
from tests.peers.harness.mesh import Mesh, Node, Plan, new_secret

SETTLE_S = 1.0

COLUMNS = [
    Column("trials", digits=0),
    Column("median s", digits=2),
    Column("longest s", digits=2),
    Column("false deaths", digits=0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--trials", type=int, default=10)
    arguments = parser.parse_args()
    rows = {}
    for size in arguments.nodes:
        with tempfile.TemporaryDirectory() as folder:
            rows[f"{size} nodes"] = measured(Path(folder), size=size, trials=arguments.trials)
    print_table("from a SIGKILL until all others know", COLUMNS, rows)


def measured(folder: Path, *, size: int, trials: int) -> list[float]:
    """The figures of one cluster."""
    backend = backends.nginx("s1", folder)
    mesh = Mesh(folder, Plan(backends=[backend], secret=new_secret()), size=size)
    try:
        backends.start([backend])
        mesh.start()
        times_s, false_deaths = [], 0
        for trial in range(trials):
            time.sleep(SETTLE_S)
            victim = mesh.nodes[trial % size]
            others = [node for node in mesh.nodes if node is not victim]
            victim.kill()
            times_s.append(known_after_s(victim, others))
            false_deaths += sum(
                state == "dead" and name != victim.name
                for node in others
                for name, state in node.members().items()
            )
            mesh.start_again([victim])
    finally:
        for child in Child.started:
            child.kill()
        Child.started.clear()
    times_s.sort()
    return [trials, times_s[len(times_s) // 2], times_s[-1], false_deaths]


def known_after_s(victim: Node, others: Sequence[Node]) -> float:
    return wait_until(
        lambda: all(node.members()[victim.name] == "dead" for node in others),
        f"all know that {victim.name} is dead",
    )


if __name__ == "__main__":
    main()
