"""How long a worker that was killed is missing, and who notices.

`python -m tests.bench.replacement [--workers N] [--kills N] [--clients N]`

A worker gets a SIGKILL while idle clients are connected and newcomers come one after the other.
Measured are the time until its replacement lets clients in, the longest wait of a newcomer for its
answer, those who were refused, and the idle clients that were lost beside the victim's own.
"""

import argparse
import http.client
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.bench.rig import Column, print_table
from tests.peers.harness import backends
from tests.peers.harness.child import Child, wait_until
from tests.peers.harness.mesh import Mesh, Node, Plan, new_secret

SETTLE_S = 6.0
"""Between kills: two workers in turn have lived well by then, and the reserve is there again."""

COLUMNS = [
    Column("kills", digits=0),
    Column("median ms", digits=0),
    Column("longest ms", digits=0),
    Column("newcomers", digits=0),
    Column("longest wait ms", digits=0),
    Column("refused", digits=0),
    Column("others lost", digits=0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clients", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measured(Path(folder), arguments.workers, arguments.kills, arguments.clients)
    print_table(
        "from the SIGKILL of a worker until another one lets clients in",
        COLUMNS,
        {f"{arguments.workers} workers": row},
    )


def measured(folder: Path, workers: int, kills: int, clients: int) -> list[float]:
    backend = backends.nginx("s1", folder)
    plan = Plan(backends=[backend], secret=new_secret(), workers=workers)
    mesh = Mesh(folder, plan, size=1)
    try:
        backends.start([backend])
        mesh.start()
        (node,) = mesh.nodes
        newcomers = Newcomers(node.port)
        newcomers.start()
        times_s, others_lost = [], 0
        for kill in range(kills):
            idle = [connected(node.port) for _ in range(clients)]
            time.sleep(SETTLE_S)
            victim = at_work(node)[kill % workers]
            os.kill(victim["pid"], signal.SIGKILL)
            times_s.append(
                wait_until(lambda pid=victim["pid"]: all_accept(node, pid), "another one is there")
            )
            lost = sum(not answers(client) for client in idle)
            others_lost += max(0, lost - victim["connections"])
        newcomers.enough.set()
        newcomers.join()
    finally:
        for child in Child.started:
            child.kill()
        Child.started.clear()
    times_ms = sorted(1_000 * time_s for time_s in times_s)
    return [
        kills,
        times_ms[len(times_ms) // 2],
        times_ms[-1],
        newcomers.served,
        1_000 * newcomers.longest_s,
        newcomers.refused,
        others_lost,
    ]


class Newcomers(threading.Thread):
    """Clients that come one after the other, ask once, and go."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.enough = threading.Event()
        self.served = self.refused = 0
        self.longest_s = 0.0
        self._port = port

    def run(self) -> None:
        while not self.enough.wait(0.005):
            began_at = time.monotonic()
            try:
                connected(self._port).close()
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException):
                continue  # It was at the worker that was killed.
            self.served += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began_at)


def connected(port: int) -> http.client.HTTPConnection:
    """A client that has been answered once."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.connect()
    client.auto_open = False
    client.request("GET", "/")
    client.getresponse().read()
    return client


def answers(client: http.client.HTTPConnection) -> bool:
    """Whether the client still has its connection; it is closed afterwards."""
    try:
        client.request("GET", "/")
        client.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()
    return True


def at_work(node: Node) -> list[dict[str, Any]]:
    return list(node.status()["workers"])


def all_accept(node: Node, victim: int) -> bool:
    return all(worker["accepting"] and worker["pid"] != victim for worker in at_work(node))


if __name__ == "__main__":
    main()
