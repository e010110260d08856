"""Ten thousand tunnels at once, each of which carries bytes both ways that are compared.

`python -m tests.bench.tunnels [--count N] [--rounds N]`

In each round every tunnel sends random bytes, mostly a message, sometimes bulk, to a backend that
mirrors them, and all are under way at once. Clients, backends and the node are processes of their
own. A tunnel takes two descriptors of the node: where a process may not have as many as there are
to be, the node has workers, each of which has its own. With the kernel relay and without it.
"""

import argparse
import hashlib
import os
import random
import resource
import select
import socket
import tempfile
import time
from pathlib import Path

from tests.bench.rig import Column, print_table, running
from tests.bench.rivals import meshlb
from tests.bench.tunnel_load import under_load
from tests.peers.harness.backends import Backend
from tests.peers.harness.child import PYTHON
from tests.peers.harness.ports import free_port

CLIENT_PROCESSES = 4
BACKENDS = 2
SPARE_FILES = 1_000
SIZES = (1, 64, 1_000, 20_000, 300_000)
SIZE_WEIGHTS = (4, 40, 40, 15, 1)
SILENCE_S_MAX = 60

COLUMNS = [
    Column("tunnels at once", digits=0, less_is_better=False),
    Column("workers", digits=0),
    Column("MB compared", digits=0, less_is_better=False),
    Column("seconds"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    workers = needed_workers(arguments.count)
    with tempfile.TemporaryDirectory() as folder:
        results = {
            relay: measure(Path(folder) / relay, relay, workers, arguments)
            for relay in ("required", "off")
        }
    print_table("Tunnels at once, by kernel_relay; every byte as it was sent", COLUMNS, results)


def needed_workers(count: int) -> int:
    """So many that the descriptors of each suffice, also if they do not get equal parts; 0: none.

    Clients and backends get as many descriptors as there may be, too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    need = 2 * count + SPARE_FILES
    return 0 if need <= hard else 1 + need // hard


def measure(root: Path, relay: str, workers: int, arguments: argparse.Namespace) -> list[float]:
    """In the order of `COLUMNS`."""
    root.mkdir()
    each = arguments.count // CLIENT_PROCESSES
    mirrors = [mirror(root, f"mirror{number}") for number in range(BACKENDS)]
    node, port = meshlb(root, mirrors, relay=relay, workers=workers, clients=2 * arguments.count)
    with (
        running(*((child, child.port) for child in mirrors), (node, port)),
        under_load(
            [port] * CLIENT_PROCESSES, compare(arguments.rounds), connections=each, seconds=0
        ) as go,
    ):
        begin = time.perf_counter()
        moved = go().moved
        took_s = time.perf_counter() - begin
    return [each * CLIENT_PROCESSES, workers, 2 * moved / 1e6, took_s]


def mirror(root: Path, name: str) -> Backend:
    """Sends back what it gets."""
    port = free_port()
    (root / name).mkdir()
    module = "tests.peers.backends.mirror"
    argv = [PYTHON, "-m", module, "--name", name, "--port", str(port)]
    return Backend(name, argv, root / name, port)


class Stream:
    """What one tunnel has to send in a round, and what has come back of it."""

    def __init__(self, client: socket.socket, rng: random.Random) -> None:
        (size,) = rng.choices(SIZES, SIZE_WEIGHTS)
        payload = rng.randbytes(rng.randint(1, size))
        self._left = memoryview(payload)
        self._digest = hashlib.sha256(payload).digest()
        self._received = hashlib.sha256()
        self._client = client
        self.missing = self.size = size = len(payload)

    def go_on(self, event: int) -> None:
        """Send and receive what can be; complain of a byte that is not as it was sent."""
        if event & select.EPOLLIN:
            piece = self._client.recv(self.missing)
            assert piece, "the tunnel has ended"
            self._received.update(piece)
            self.missing -= len(piece)
            assert self.missing or self._received.digest() == self._digest, "other bytes"
        if self._left and event & select.EPOLLOUT:
            self._left = self._left[self._client.send(self._left) :]

    @property
    def interest(self) -> int:
        return select.EPOLLIN | (select.EPOLLOUT if self._left else 0)


def compare(rounds: int):
    """Work that carries out so many rounds; returns how many bytes came back."""

    def work(clients: list[socket.socket], _seconds: float) -> int:
        rng = random.Random(os.getpid())
        for client in clients:
            client.setblocking(False)
        return sum(carry_out(clients, rng) for _ in range(rounds))

    return work


def carry_out(clients: list[socket.socket], rng: random.Random) -> int:
    """One round: all tunnels at once."""
    with select.epoll() as poll:
        under_way = {client.fileno(): Stream(client, rng) for client in clients}
        size = sum(stream.size for stream in under_way.values())
        for number, stream in under_way.items():
            poll.register(number, stream.interest)
        while under_way:
            events = poll.poll(SILENCE_S_MAX)
            assert events, f"{len(under_way)} tunnels have stalled"
            for number, event in events:
                stream = under_way[number]
                stream.go_on(event)
                if stream.missing:
                    poll.modify(number, stream.interest)
                else:
                    poll.unregister(number)
                    del under_way[number]
    return size


if __name__ == "__main__":
    main()
