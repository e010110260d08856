"""What a request costs while more and more clients hold idle connections, beside HAProxy and nginx.

`python -m tests.bench.growth [--rounds N] [--seconds S] [--idle N,N] [--proxies …]`

Each idle client has asked once, and keeps its connection. The load is that of `tests.bench.http`;
the idle clients of a proxy are in a process of their own, which does nothing meanwhile.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from tests.bench.http import collect_cookies, load
from tests.bench.rig import LOAD_CORE, Column, pinned, print_table, running
from tests.bench.rivals import PROXIES
from tests.peers.harness import backends
from tests.peers.harness.child import PYTHON, REPOSITORY

IDLE = (1, 1_000, 15_000)
CLIENTS = 16_000
CPU_US = 2
"""Which figure of `http.load` it is."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--idle", default=",".join(map(str, IDLE)))
    parser.add_argument("--proxies", default=",".join(PROXIES))
    parser.add_argument("--hold", nargs=2, metavar=("PORT", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        hold(*map(int, arguments.hold))
        return
    levels = [int(level) for level in arguments.idle.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.proxies.split(","), levels, arguments)
    columns = [Column(f"{level:,} idle: CPU µs") for level in levels]
    print_table("keep-alive GET, sticky by cookie, beside idle clients", columns, results)


def measure(
    root: Path, names: Sequence[str], levels: Sequence[int], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """CPU µs of a request at each level, medians of the rounds."""
    origins = [backends.nginx(f"s{number}", root) for number in (1, 2, 3)]
    for origin in origins:
        origin.pin(LOAD_CORE)
    with running(*((origin, origin.port) for origin in origins)):
        proxies = {}
        for name in names:
            (root / name).mkdir()
            proxies[name] = PROXIES[name](root / name, origins, clients=CLIENTS)
        results: dict[str, list[float]] = {name: [] for name in names}
        with running(*proxies.values()), ExitStack() as idle:
            cookies = {
                name: collect_cookies(root / f"{name}.cookies", port)
                for name, (_, port) in proxies.items()
            }
            held = 0
            for level in levels:
                for _, port in proxies.values():
                    idle.enter_context(holding(port, level - held))
                held = level
                rounds: dict[str, list[float]] = {name: [] for name in names}
                for number in range(-1, arguments.rounds):
                    for name, (child, port) in proxies.items():
                        figures = load(child.pid, port, cookies[name], arguments.seconds)
                        if number >= 0:  # The first one warms up.
                            rounds[name].append(figures[CPU_US])
                for name in names:
                    results[name].append(median(rounds[name]))
    return results


@contextmanager
def holding(port: int, count: int) -> Iterator[None]:
    """`count` idle clients more, in a process of their own."""
    argv = [PYTHON, "-m", "tests.bench.growth", "--hold", str(port), str(count)]
    holder = subprocess.Popen(
        pinned(LOAD_CORE, argv),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if not holder.stdout.readline():
            raise SystemExit(f"{count} idle clients could not be had")
        yield
    finally:
        holder.stdin.close()
        holder.wait()


def hold(port: int, count: int) -> None:
    """Connect `count` clients, each asks once; keep them until nobody listens any more."""
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: LB=none\r\n\r\n")
        if not client.recv(65_536).startswith(b"HTTP/1.1 200"):
            raise SystemExit("an idle client was not answered")
        clients.append(client)
    print("connected", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
