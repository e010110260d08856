"""WebSocket tunnels beside HAProxy and nginx: round trip, CPU per message, bulk, memory when idle.

`python -m tests.bench.websocket [--rounds N] [--seconds S] [--idle N] [--proxies …]`

Messages have 64 bytes and are echoed by a backend. CPU is that of everybody who takes part, the
kernel's threads too, since the kernel relay works outside of its process (see `machine`), less
what the same load costs without a proxy. `added
round trip`: one message at a time, the proxy on a core of its own. `at 4,000/s`: 64 connections in
all, paced. `saturated`: 64 connections from two processes, each with a message under way, to two
backends; both cores are busy. `bulk`: what 8 tunnels carry from the backends, in MB for each
second of CPU that the proxy adds. `meshlb (user space)` has its kernel relay switched off.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.frames import FROM_CLIENT
from tests.bench.rig import LOAD_CORE, PROXY_CORE, Column, median_columns, print_table, running
from tests.bench.rivals import PROXIES, meshlb
from tests.bench.tunnel_load import (
    Spent,
    echo_at,
    load,
    open_tunnel,
    receive_message,
    stay_silent,
    take_bulk,
    under_load,
)
from tests.peers.harness.backends import Backend
from tests.peers.harness.child import PYTHON, Child
from tests.peers.harness.ports import free_port

CONNECTIONS = 64
RATE = 4_000
BULK_CONNECTIONS = 8
BACKENDS = 2

TUNNEL_PROXIES = PROXIES | {"meshlb (user space)": partial(meshlb, relay="off")}

COLUMNS = [
    Column("added round trip µs"),
    Column(f"CPU µs/message at {RATE:,}/s"),
    Column("CPU µs/message, saturated"),
    Column("messages/s, saturated", digits=0, less_is_better=False),
    Column("bulk MB/CPU-second", digits=0, less_is_better=False),
    Column("bytes/idle tunnel", digits=0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--idle", type=int, default=9_000, help="tunnels held open for memory")
    parser.add_argument("--proxies", default=",".join(TUNNEL_PROXIES))
    arguments = parser.parse_args()
    names = arguments.proxies.split(",")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), names, arguments)
    print_table(f"WebSocket tunnels, {len(FROM_CLIENT)}-byte frames", COLUMNS, results)


def measure(
    root: Path, names: Sequence[str], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Medians of each proxy's rounds, in the order of `COLUMNS`."""
    origins = [origin(root, f"echo{number}") for number in range(BACKENDS)]
    with running(*((child, child.port) for child in origins)):
        proxies: dict[str, tuple[Child, int]] = {}
        for name in names:
            (root / name).mkdir()
            proxies[name] = TUNNEL_PROXIES[name](root / name, origins)
        rows: dict[str, list[list[float]]] = {name: [] for name in names}
        with running(*proxies.values()):
            # Idle tunnels first, while no proxy has memory left over from busier times.
            idle = {name: idle_bytes(*proxies[name], arguments.idle) for name in names}
            ports = [child.port for child in origins]
            for _ in range(arguments.rounds):
                direct = figures(ports, arguments.seconds, origins)
                for name, (proxy, port) in proxies.items():
                    measured = figures([port] * BACKENDS, arguments.seconds, origins, proxy)
                    rows[name].append(measured.beyond(direct))
    return {name: [*median_columns(measured), idle[name]] for name, measured in rows.items()}


class Figures:
    """Of one round through one proxy, or without any."""

    def __init__(self, paced: Spent, saturated: Spent, bulk: Spent, round_trip_us: float) -> None:
        self.round_trip_us = round_trip_us
        self.paced_us = paced.cpu_s / paced.moved * 1e6
        self.saturated_us = saturated.cpu_s / saturated.moved * 1e6
        self.messages_per_s = saturated.moved / saturated.took_s
        self.bulk_s_per_mb = bulk.cpu_s / bulk.moved * 1e6

    def beyond(self, direct: "Figures") -> list[float]:
        """What the proxy adds, in the order of the columns."""
        return [
            self.round_trip_us - direct.round_trip_us,
            self.paced_us - direct.paced_us,
            self.saturated_us - direct.saturated_us,
            self.messages_per_s,
            1 / max(self.bulk_s_per_mb - direct.bulk_s_per_mb, 1e-6),
        ]


def figures(
    ports: Sequence[int], seconds: float, origins: Sequence[Child], proxy: Child | None = None
) -> Figures:
    """The same load at each of `ports`, in which `origins` and perhaps `proxy` take part."""
    each = CONNECTIONS // len(ports)
    with apart(proxy, origins):
        alone_us = round_trip_us(ports[0], seconds)
    return Figures(
        load(ports, echo_at(RATE / len(ports)), connections=each, seconds=seconds),
        load(ports, echo_at(0), connections=each, seconds=seconds),
        load(
            ports,
            take_bulk,
            connections=BULK_CONNECTIONS // len(ports),
            seconds=seconds,
            path="/bulk",
        ),
        alone_us,
    )


def origin(root: Path, name: str) -> Backend:
    """An echo backend."""
    port = free_port()
    (root / name).mkdir()
    return Backend(name, [PYTHON, "-m", "tests.bench.echo", str(port)], root / name, port)


@contextmanager
def apart(proxy: Child | None, origins: Sequence[Child]) -> Iterator[None]:
    """The proxy on one core; load and backends on the other."""
    everywhere = os.sched_getaffinity(0)
    places = {0: LOAD_CORE, **{child.pid: LOAD_CORE for child in origins}}
    if proxy is not None:
        places[proxy.pid] = PROXY_CORE
    for pid, core in places.items():
        os.sched_setaffinity(pid, {core})
    try:
        yield
    finally:
        for pid in places:
            os.sched_setaffinity(pid, everywhere)


def round_trip_us(port: int, seconds: float) -> float:
    """The median round trip of one message at a time over one connection."""
    took_s = []
    with open_tunnel(port) as client:
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            client.sendall(FROM_CLIENT)
            receive_message(client)
            took_s.append(time.perf_counter() - begin)
    return statistics.median(took_s) * 1e6


def idle_bytes(proxy: Child, port: int, count: int) -> float:
    """Resident bytes of the proxy for each of `count` silent tunnels."""
    open_tunnel(port).close()
    before = proxy.resident_bytes
    with under_load([port], stay_silent, connections=count, seconds=0):
        time.sleep(1)
        return (proxy.resident_bytes - before) / count


if __name__ == "__main__":
    main()
