"""TLS beside HAProxy and nginx: new connections, resumed ones, requests, and idle WebSockets.

`python -m tests.bench.tls [--rounds N] [--seconds S] [--idle N] [--proxies …]`

All of them show the same ECDSA certificate, by the same OpenSSL, and agree on TLS 1.3. The CPU
time is the proxy's, for a connection with one request each, for one that resumes a session, and
for a request on a kept connection. New connections without TLS stand beside them.
"""

import argparse
import os
import re
import socket
import ssl
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import http
from tests.bench.frames import upgrade_request
from tests.bench.rig import LOAD_CORE, Column, CpuTime, median_columns, print_table, running
from tests.bench.rivals import PROXIES
from tests.fakes.certificates import Authority, Files
from tests.peers.harness import backends
from tests.peers.harness.backends import Backend
from tests.peers.harness.child import PYTHON, Child
from tests.peers.harness.ports import free_port

NAME = "app.test"
CLIENTS = 60
"""How many cookies the load carries."""

RESUMED_PER_ROUND = 500
REQUEST = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n{{field}}\r\n"

COLUMNS = [
    Column("plain: CPU µs", digits=0),
    Column("plain: new/s", digits=0, less_is_better=False),
    Column("full: CPU µs", digits=0),
    Column("full: new/s", digits=0, less_is_better=False),
    Column("resumed: CPU µs", digits=0),
    Column("request: CPU µs"),
    Column("idle wss: bytes", digits=0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=1000, help="WebSockets held open for memory")
    parser.add_argument("--proxies", default=",".join(PROXIES))
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.proxies.split(","), arguments)
    print_table(
        "TLS 1.3, ECDSA P-256, proxy on one core; each connection one request", COLUMNS, results
    )


@dataclass(frozen=True, slots=True)
class Proxy:
    """One process, its port, and what its clients bring."""

    child: Child
    port: int
    cookies: Path


def measure(
    root: Path, names: Sequence[str], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Medians of each proxy's rounds, in the order of `COLUMNS`."""
    files = Authority(root).sign("bench", names=(NAME,))
    origins = [backends.nginx(f"s{number}", root) for number in (1, 2, 3)]
    echo = echo_backend(root)
    for origin in (*origins, echo):
        origin.pin(LOAD_CORE)

    def make(name: str, kind: str, behind: Sequence[Backend], tls: Files | None) -> Proxy:
        folder = root / f"{name}-{kind}"
        folder.mkdir()
        return Proxy(*PROXIES[name](folder, behind, tls), folder / "cookies")

    with running(*((origin, origin.port) for origin in (*origins, echo))):
        plain = {name: make(name, "plain", origins, None) for name in names}
        secured = {name: make(name, "tls", origins, files) for name in names}
        sockets = {name: make(name, "wss", [echo], files) for name in names}
        everybody = [*plain.values(), *secured.values(), *sockets.values()]
        rows: dict[str, list[list[float]]] = {name: [] for name in names}
        with running(*((proxy.child, proxy.port) for proxy in everybody)):
            idle = {name: idle_bytes(sockets[name], arguments.idle) for name in names}
            for name in names:
                http.collect_cookies(plain[name].cookies, plain[name].port)
                collect_cookies(secured[name])
                round_of(plain[name], secured[name], seconds=2)
            for _ in range(arguments.rounds):
                for name in names:
                    rows[name].append(round_of(plain[name], secured[name], arguments.seconds))
    return {name: [*median_columns(measured), idle[name]] for name, measured in rows.items()}


def collect_cookies(proxy: Proxy) -> None:
    """Be new clients, and write down the Cookie field that each would send next."""
    context, cookies = trusting(), []
    for number in range(CLIENTS):
        head, _ = ask(context, proxy.port, None, "")
        found = re.search(rb"(?i)set-cookie: *([^;\r]+)", head)
        cookies.append(found[1].decode() if found else f"LB={number}")
    proxy.cookies.write_text("\n".join(cookies) + "\n")


def echo_backend(root: Path) -> Backend:
    port = free_port()
    (root / "echo").mkdir()
    argv = [PYTHON, "-m", "tests.bench.echo", str(port)]
    return Backend("echo", argv, root / "echo", port)


def round_of(plain: Proxy, secured: Proxy, seconds: int) -> list[float]:
    """Figures of one round, but for the memory."""

    def load(proxy: Proxy, scheme: str, *, fresh: bool) -> tuple[float, float]:
        """CPU µs per request, and requests per second."""
        figures = http.load(
            proxy.child.pid, proxy.port, proxy.cookies, seconds, scheme=scheme, fresh=fresh
        )
        return figures[2], figures[3]

    return [
        *load(plain, "http", fresh=True),
        *load(secured, "https", fresh=True),
        resume(secured),
        load(secured, "https", fresh=False)[0],
    ]


def resume(proxy: Proxy) -> float:
    """CPU µs of a connection that resumes the session of the one before it."""
    context = trusting()
    cookie = f"Cookie: {proxy.cookies.read_text().splitlines()[0]}\r\n"
    _, session = ask(context, proxy.port, None, cookie)
    before = CpuTime.of(proxy.child.pid)
    for _ in range(RESUMED_PER_ROUND):
        _, session = ask(context, proxy.port, session, cookie)
    return (CpuTime.of(proxy.child.pid) - before).per(RESUMED_PER_ROUND)[2]


def ask(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None, field: str
) -> tuple[bytes, ssl.SSLSession | None]:
    """One request on a connection of its own; the response, and what to resume next."""
    raw = socket.create_connection(("127.0.0.1", port))
    with context.wrap_socket(raw, server_hostname=NAME, session=session) as client:
        client.sendall(REQUEST.format(field=field).encode())
        heard = b""
        while piece := client.recv(65_536):
            heard += piece
        if session is not None and not client.session_reused:
            raise SystemExit(f"the proxy on port {port} did not resume a session")
        return heard, client.session


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def idle_bytes(proxy: Proxy, count: int) -> float:
    """Resident bytes of the proxy for each of `count` silent WebSockets."""
    context = trusting()
    open_websocket(context, proxy.port).close()
    before = proxy.child.resident_bytes
    clients = [open_websocket(context, proxy.port) for _ in range(count)]
    time.sleep(1)
    growth = proxy.child.resident_bytes - before
    for client in clients:
        client.close()
    return growth / count


def open_websocket(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port))
    client = context.wrap_socket(raw, server_hostname=NAME)
    client.sendall(upgrade_request())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = client.recv(4_096)
        if not received:
            raise SystemExit(f"the proxy on port {port} closed instead of upgrading: {head!r}")
        head += received
    return client


if __name__ == "__main__":
    main()
