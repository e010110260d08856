"""CPU per keep-alive request, sticky by cookie, beside HAProxy and nginx in one run.

`python -m tests.bench.http [--rounds N] [--seconds S] [--proxies haproxy,nginx,meshlb]`

One proxy after the other gets the same load, round after round, so that a slow phase of the
machine hits all of them; the figures are medians over the rounds. CPU time is read from
`/proc/PID/stat` and divided by the requests that wrk saw answered.
"""

import argparse
import asyncio
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rig import (
    LOAD_CORE,
    Column,
    CpuTime,
    median_columns,
    pinned,
    print_table,
    running,
)
from tests.bench.rivals import PROXIES
from tests.peers.harness import backends
from tests.peers.harness.backends import tool
from tests.peers.harness.http import fetch

CONNECTIONS = 64
CLIENTS = 240
"""How many cookies the load carries, so that a stick table has something to look up."""

COLUMNS = [
    Column("user µs"),
    Column("system µs"),
    Column("CPU µs/request"),
    Column("requests/s", digits=0, less_is_better=False),
    Column("latency p50 µs", digits=0),
    Column("latency p99 µs", digits=0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--proxies", default=",".join(PROXIES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(
            Path(folder), arguments.proxies.split(","), arguments.rounds, arguments.seconds
        )
    print_table(
        f"keep-alive GET, sticky by cookie, {CONNECTIONS} connections, proxy on one core",
        COLUMNS,
        results,
    )


def measure(root: Path, names: Sequence[str], rounds: int, seconds: int) -> dict[str, list[float]]:
    """Medians of each proxy's rounds, in the order of `COLUMNS`."""
    origins = [backends.nginx(f"s{number}", root) for number in (1, 2, 3)]
    for origin in origins:
        origin.pin(LOAD_CORE)
    with running(*((origin, origin.port) for origin in origins)):
        proxies = {}
        for name in names:
            folder = root / name
            folder.mkdir()
            proxies[name] = PROXIES[name](folder, origins)
        rows: dict[str, list[list[float]]] = {name: [] for name in names}
        with running(*proxies.values()):
            cookies = {
                name: collect_cookies(root / f"{name}.cookies", port)
                for name, (_, port) in proxies.items()
            }
            for name, (child, port) in proxies.items():
                load(child.pid, port, cookies[name], seconds=1)
            for _ in range(rounds):
                for name, (child, port) in proxies.items():
                    rows[name].append(load(child.pid, port, cookies[name], seconds))
    return {name: median_columns(measured) for name, measured in rows.items()}


def collect_cookies(file: Path, port: int) -> Path:
    """Be `CLIENTS` new clients, and write down the Cookie field that each would send next."""

    async def first_requests() -> list[str]:
        responses = [await fetch(port) for _ in range(CLIENTS)]
        # nginx sets no cookie; there the client brings the one of its application.
        return [response.cookie or f"LB={n}" for n, response in enumerate(responses)]

    file.write_text("\n".join(asyncio.run(first_requests())) + "\n")
    return file


def load(
    pid: int,
    port: int,
    cookies: Path,
    seconds: int,
    *,
    scheme: str = "http",
    fresh: bool = False,
    core: int | None = LOAD_CORE,
    has_children: bool = False,
) -> list[float]:
    """Load one proxy for a while; returns figures in the order of `COLUMNS`.

    Args:
        pid: of the proxy.
        port: where it listens.
        cookies: of the clients.
        seconds: for how long.
        scheme: "http" or "https".
        fresh: open a new connection for each request.
        core: where the load is made; None: anywhere.
        has_children: the proxy is several processes.
    """
    script = Path(__file__).with_name("cookies.lua")
    argv = [tool("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)]
    more = [str(cookies)] + (["close"] if fresh else [])
    cpu_time = CpuTime.of_tree if has_children else CpuTime.of
    before = cpu_time(pid)
    report = subprocess.run(
        [
            *(argv if core is None else pinned(core, argv)),
            f"{scheme}://127.0.0.1:{port}/",
            "--",
            *more,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    spent = cpu_time(pid) - before
    trouble = re.search(r"Non-2xx.*|Socket errors.*", report)
    if trouble:
        raise SystemExit(f"the proxy on port {port} failed requests: {trouble[0]}")
    requests = int(found(r"(\d+) requests in", report))
    rate = float(found(r"Requests/sec:\s+([\d.]+)", report))
    p50, p99 = (microseconds(found(rf"{p}%\s+([\d.]+[um]?s)", report)) for p in (50, 99))
    return [*spent.per(requests), rate, p50, p99]


def found(pattern: str, report: str) -> str:
    found = re.search(pattern, report)
    assert found, report
    return found[1]


def microseconds(text: str) -> float:
    for unit, scale in (("us", 1.0), ("ms", 1e3), ("s", 1e6)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * scale
    raise ValueError(text)


if __name__ == "__main__":
    main()
