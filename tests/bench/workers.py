"""Requests per second of several processes or threads, beside HAProxy and nginx in one run.

`python -m tests.bench.workers [--workers N] [--rounds N] [--seconds S] [--proxies …]`

As `tests.bench.http`, but nothing is kept to a core: proxies, backends and the load share them all,
so whoever spends less has more left to answer with. CPU time is that of all of its processes.
"""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.bench import http
from tests.bench.rig import median_columns, print_table, running
from tests.bench.rivals import PROXIES
from tests.peers.harness import backends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--proxies", default=",".join(PROXIES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.proxies.split(","), arguments)
    print_table(
        f"keep-alive GET, sticky by cookie, {http.CONNECTIONS} connections,"
        f" {arguments.workers} processes or threads",
        http.COLUMNS,
        results,
    )


def measure(
    root: Path, names: Sequence[str], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Medians of each proxy's rounds, in the order of `http.COLUMNS`."""
    origins = [backends.nginx(f"s{number}", root) for number in (1, 2, 3)]
    with running(*((origin, origin.port) for origin in origins)):
        proxies = {}
        for name in names:
            folder = root / name
            folder.mkdir()
            proxies[name] = PROXIES[name](folder, origins, workers=arguments.workers)
        rows: dict[str, list[list[float]]] = {name: [] for name in names}
        with running(*proxies.values()):
            load = partial(http.load, core=None, has_children=True)
            cookies = {
                name: http.collect_cookies(root / f"{name}.cookies", port)
                for name, (_, port) in proxies.items()
            }
            for name, (child, port) in proxies.items():
                load(child.pid, port, cookies[name], seconds=1)
            for _ in range(arguments.rounds):
                for name, (child, port) in proxies.items():
                    rows[name].append(load(child.pid, port, cookies[name], arguments.seconds))
    return {name: median_columns(measured) for name, measured in rows.items()}


if __name__ == "__main__":
    main()
