"""New session keys through HTTP at three nodes: how many a second, at what cost and latency.

`python -m tests.bench.claims [--seconds S] [--connections N] [--haproxy]`

Every request brings a header key that nobody has seen, so it has to be agreed on before it is
answered. First as fast as it goes, then paced at `PACED_PER_S` in total, beside the same pace of
keys that each node knows already: the difference is what the agreement costs a client. Nothing is
pinned to a core: nodes, backends and load share the machine, so the rate is the whole machine's,
and `CPU µs` is the time of all three nodes for each request that was answered.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.http import found, microseconds
from tests.bench.race import haproxy_peers
from tests.bench.rig import Column, CpuTime, print_table, running
from tests.peers.harness import backends
from tests.peers.harness.backends import tool
from tests.peers.harness.child import Child
from tests.peers.harness.mesh import HEADER, Mesh, Plan, new_secret

PACED_PER_S = 1_000
PACED_CONNECTIONS = 20
"""At each node."""

KNOWN_KEYS = 50
"""Keys that each connection asks for again and again, when nothing is to be claimed."""

SETTLE_S = 2.0

COLUMNS = [
    Column("requests/s", digits=0, less_is_better=False),
    Column("CPU µs/request"),
    Column("p50 µs", digits=0),
    Column("p99 µs", digits=0),
    Column("lag max ms"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64, help="at each node")
    parser.add_argument("--haproxy", action="store_true", help="its peers too, for comparison")
    arguments = parser.parse_args()
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        origins = [backends.nginx(f"s{number}", root) for number in (1, 2, 3)]
        with running(*((origin, origin.port) for origin in origins)):
            if arguments.haproxy:
                haproxies = haproxy_peers(root, origins)
                with running(*haproxies):
                    time.sleep(SETTLE_S)  # until the peers have found each other
                    results |= measure("haproxy, ", haproxies, arguments)
            mesh = Mesh(root, Plan(backends=origins, sticky=[HEADER], secret=new_secret()))
            with running(*((node, node.port) for node in mesh.nodes)):
                mesh.wait_ready()
                results |= measure("", [(node, node.port) for node in mesh.nodes], arguments, mesh)
                unclear = sum(
                    node.metric("meshlb_pins_total", outcome=outcome)
                    for node in mesh.nodes
                    for outcome in ("provisional", "conflict")
                )
                hedged = sum(node.metric("meshlb_claims_hedged_total") for node in mesh.nodes)
    print_table("new header keys through HTTP at three nodes", COLUMNS, results)
    print(f"provisional pins and conflicts: {unclear:.0f}; claims that were hedged: {hedged:.0f}")


def measure(
    name: str,
    nodes: Sequence[tuple[Child, int]],
    arguments: argparse.Namespace,
    mesh: Mesh | None = None,
) -> dict[str, list[float]]:
    """Figures in the order of `COLUMNS`: at full load, and at `PACED_PER_S` with and without."""
    seconds, pause_ms = arguments.seconds, 1_000 * 3 * PACED_CONNECTIONS // PACED_PER_S
    fast = {"connections": arguments.connections, "seconds": seconds}
    slow = {"connections": PACED_CONNECTIONS, "seconds": seconds, "pause_ms": pause_ms}
    load(nodes, "warm", **(fast | {"seconds": 1}))
    known = f"{name}known keys, full load"
    load(nodes, "known", **(slow | {"seconds": 2}), keys=KNOWN_KEYS)
    return {
        f"{name}new keys, full load": load(nodes, "new", **fast, mesh=mesh),
        known: load(nodes, "known", **fast, keys=KNOWN_KEYS, mesh=mesh),
        f"{name}new keys, paced": load(nodes, "paced", **slow, mesh=mesh),
        f"{name}known keys, paced": load(nodes, "known", **slow, keys=KNOWN_KEYS, mesh=mesh),
    }


def load(
    nodes: Sequence[tuple[Child, int]],
    prefix: str,
    *,
    connections: int,
    seconds: int,
    pause_ms: int = 0,
    keys: int = 0,
    mesh: Mesh | None = None,
) -> list[float]:
    """Load all nodes at the same time; figures in the order of `COLUMNS`."""
    script = Path(__file__).with_name("keys.lua")
    before = [CpuTime.of(child.pid) for child, _ in nodes]
    argv = [tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    loads = [
        subprocess.Popen(
            [*argv, f"http://127.0.0.1:{port}/", "--", own_prefix, str(pause_ms), str(keys)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, (_, port) in enumerate(nodes)
        for own_prefix in [prefix if keys else f"{prefix}-{number}-"]
    ]
    lag_s = 0.0
    while any(child.poll() is None for child in loads):
        time.sleep(0.2)
        if mesh is not None:
            lags = [node.metric("meshlb_loop_lag_seconds") for node in mesh.nodes]
            lag_s = max(lag_s, *lags)
    reports = [child.communicate()[0] for child in loads]
    spent_s = sum(
        (CpuTime.of(child.pid) - earlier).total_s
        for (child, _), earlier in zip(nodes, before, strict=True)
    )
    requests = sum(int(found(r"(\d+) requests in", report)) for report in reports)
    rate = sum(float(found(r"Requests/sec:\s+([\d.]+)", report)) for report in reports)
    p50, p99 = (
        max(microseconds(found(rf"{p}%\s+([\d.]+[um]?s)", report)) for report in reports)
        for p in (50, 99)
    )
    return [rate, 1e6 * spent_s / requests, p50, p99, 1e3 * lag_s]


if __name__ == "__main__":
    main()
