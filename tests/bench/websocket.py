"""WebSocket tunnels beside HAProxy and nginx: round trip, CPU per message, memory when idle.

`python -m tests.bench.websocket [--rounds N] [--seconds S] [--idle N] [--proxies …]`

A message is echoed by a backend; `added round trip` is what the proxy adds to a direct
connection with one message under way, `CPU µs/message` is the proxy's CPU time per echoed
message (two passages) with 64 connections that each have one under way.
"""

import argparse
import os
import select
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.frames import FROM_BACKEND, FROM_CLIENT, upgrade_request
from tests.bench.rig import (
    LOAD_CORE,
    Column,
    CpuTime,
    median_columns,
    print_table,
    running,
)
from tests.bench.rivals import PROXIES
from tests.peers.harness.backends import Backend
from tests.peers.harness.child import PYTHON, Child
from tests.peers.harness.ports import free_port

CONNECTIONS = 64

COLUMNS = [
    Column("added round trip µs"),
    Column("user µs"),
    Column("system µs"),
    Column("CPU µs/message"),
    Column("messages/s", digits=0, less_is_better=False),
    Column("bytes/idle tunnel", digits=0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--idle", type=int, default=3000, help="tunnels held open for memory")
    parser.add_argument("--proxies", default=",".join(PROXIES))
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    names = arguments.proxies.split(",")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), names, arguments)
    print_table(f"WebSocket echo, {len(FROM_CLIENT)}-byte frames", COLUMNS, results)


def measure(
    root: Path, names: Sequence[str], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Medians of each proxy's rounds, in the order of `COLUMNS`."""
    port = free_port()
    (root / "echo").mkdir()
    argv = [PYTHON, "-m", "tests.bench.echo", str(port)]
    origin = Backend("echo", argv, root / "echo", port)
    origin.pin(LOAD_CORE)
    with running((origin, port)):
        proxies = {}
        for name in names:
            (root / name).mkdir()
            proxies[name] = PROXIES[name](root / name, [origin])
        rows: dict[str, list[list[float]]] = {name: [] for name in names}
        with running(*proxies.values()):
            # Idle tunnels first, while no proxy has memory left over from busier times.
            idle = {name: idle_bytes(*proxies[name], arguments.idle) for name in names}
            for proxy, proxy_port in proxies.values():
                load(proxy, proxy_port, seconds=0.5)
            for _ in range(arguments.rounds):
                direct_us = round_trip_us(port, arguments.seconds / 2)
                for name, (proxy, proxy_port) in proxies.items():
                    added = round_trip_us(proxy_port, arguments.seconds / 2) - direct_us
                    rows[name].append([added, *load(proxy, proxy_port, arguments.seconds)])
    return {name: [*median_columns(measured), idle[name]] for name, measured in rows.items()}


def open_tunnel(port: int) -> socket.socket:
    """A connected, upgraded client socket."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(upgrade_request())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = client.recv(4096)
        if not received:
            raise SystemExit(f"the proxy on port {port} closed instead of upgrading: {head!r}")
        head += received
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise SystemExit(f"the proxy on port {port} did not upgrade: {head!r}")
    return client


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


def receive_message(client: socket.socket) -> None:
    missing = len(FROM_BACKEND)
    while missing:
        received = client.recv(missing)
        assert received, "the tunnel closed"
        missing -= len(received)


def load(proxy: Child, port: int, seconds: float) -> list[float]:
    """Keep one message under way on each connection; figures in the order of `COLUMNS`."""
    clients = {
        client.fileno(): client for client in (open_tunnel(port) for _ in range(CONNECTIONS))
    }
    messages = 0
    with select.epoll() as poll:
        for number, client in clients.items():
            poll.register(number, select.EPOLLIN)
            client.sendall(FROM_CLIENT)
        before, begin = CpuTime.of(proxy.pid), time.perf_counter()
        while time.perf_counter() - begin < seconds:
            for number, _ in poll.poll():
                receive_message(clients[number])
                clients[number].sendall(FROM_CLIENT)
                messages += 1
        took_s = time.perf_counter() - begin
        spent = CpuTime.of(proxy.pid) - before
    for client in clients.values():
        client.close()
    return [*spent.per(messages), messages / took_s]


def idle_bytes(proxy: Child, port: int, count: int) -> float:
    """Resident bytes of the proxy for each of `count` silent tunnels."""
    open_tunnel(port).close()
    before = proxy.resident_bytes
    tunnels = [open_tunnel(port) for _ in range(count)]
    time.sleep(1)
    growth = proxy.resident_bytes - before
    for tunnel in tunnels:
        tunnel.close()
    return growth / count


if __name__ == "__main__":
    main()
