"""Load through WebSocket tunnels, in processes of its own: echoed messages, bulk, silence.

Each process opens its tunnels, says so, and waits for the word; so what is measured begins with
the load and not before. Afterwards it says how much it has moved.
"""

import multiprocessing
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tests.bench.frames import FROM_BACKEND, FROM_CLIENT, upgrade_request
from tests.bench.machine import used_cpu_s

BULK_BYTES = 128 << 10
WARM_UP_S = 0.3
OPEN_S_MAX = 300

Work = Callable[[list[socket.socket], float], int]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a load took."""

    moved: int
    """Messages, or bytes."""
    took_s: float
    cpu_s: float
    """Of load, proxy, backends and kernel together."""


def open_tunnel(port: int, path: str = "/echo") -> socket.socket:
    """A connected, upgraded client socket."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(upgrade_request(path))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = client.recv(1)  # What follows the head is not ours yet.
        if not received:
            raise SystemExit(f"the proxy on port {port} closed instead of upgrading: {head!r}")
        head += received
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise SystemExit(f"the proxy on port {port} did not upgrade: {head!r}")
    return client


def receive_message(client: socket.socket) -> None:
    missing = len(FROM_BACKEND)
    while missing:
        received = client.recv(missing)
        assert received, "the tunnel closed"
        missing -= len(received)


def echo_at(rate: float) -> Work:
    """Messages at a steady rate in all, taken in turn by the tunnels; 0: as fast as they echo."""

    def paced(clients: list[socket.socket], seconds: float) -> int:
        begin = time.perf_counter()
        with select.epoll() as poll:
            under_way = {client.fileno(): client for client in clients}
            for number in under_way:
                poll.register(number, select.EPOLLIN)
            sent = received = 0
            while (elapsed := time.perf_counter() - begin) < seconds:
                while sent < elapsed * rate:
                    clients[sent % len(clients)].sendall(FROM_CLIENT)
                    sent += 1
                for number, _ in poll.poll(max(0.0, (sent + 1) / rate - elapsed)):
                    receive_message(under_way[number])
                    received += 1
            while received < sent:
                for number, _ in poll.poll():
                    receive_message(under_way[number])
                    received += 1
        return received

    def closed(clients: list[socket.socket], seconds: float) -> int:
        under_way = {client.fileno(): client for client in clients}
        messages = 0
        with select.epoll() as poll:
            for number, client in under_way.items():
                poll.register(number, select.EPOLLIN)
                client.sendall(FROM_CLIENT)
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                for number, _ in poll.poll():
                    receive_message(under_way[number])
                    under_way[number].sendall(FROM_CLIENT)
                    messages += 1
            for client in clients:
                receive_message(client)
        return messages

    return paced if rate else closed


def take_bulk(clients: list[socket.socket], seconds: float) -> int:
    """Read what the backends send without a pause."""
    received = 0
    room = bytearray(4 * BULK_BYTES)
    with select.epoll() as poll:
        by_number = {client.fileno(): client for client in clients}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for number, _ in poll.poll(1):
                received += by_number[number].recv_into(room)
    return received


def stay_silent(clients: list[socket.socket], seconds: float) -> int:
    time.sleep(seconds)
    return len(clients)


def load(
    ports: Sequence[int], work: Work, *, connections: int, seconds: float, path: str = "/echo"
) -> Spent:
    """Have one process for each of `ports` do `work` with `connections` tunnels each."""
    with under_load(ports, work, connections=connections, seconds=seconds, path=path) as go:
        return go()


@contextmanager
def under_load(
    ports: Sequence[int], work: Work, *, connections: int, seconds: float, path: str = "/echo"
) -> Iterator[Callable[[], Spent]]:
    """The same, with all tunnels open and nothing done until what it yields is called."""
    fork = multiprocessing.get_context("fork")
    loads = []
    for port in ports:
        ours, theirs = fork.Pipe()
        process = fork.Process(
            target=_serve, args=(theirs, port, work, connections, seconds, path), daemon=True
        )
        process.start()
        loads.append((process, ours))
    try:
        for _, pipe in loads:
            if not pipe.poll(OPEN_S_MAX):
                raise SystemExit("the load did not get its tunnels in time")
            pipe.recv()

        def go() -> Spent:
            for _, pipe in loads:
                pipe.send("go")
            time.sleep(WARM_UP_S)
            before_s = used_cpu_s()
            moved, took_s = 0, 0.0
            for _, pipe in loads:
                pipe.recv()
            cpu_s = used_cpu_s() - before_s
            for _, pipe in loads:
                done, elapsed_s = pipe.recv()
                moved += done
                took_s = max(took_s, elapsed_s)
            return Spent(moved, took_s, cpu_s)

        yield go
    finally:
        for process, _ in loads:
            process.kill()
            process.join()


def _serve(
    pipe: Connection, port: int, work: Work, connections: int, seconds: float, path: str
) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    clients = [open_tunnel(port, path) for _ in range(connections)]
    pipe.send("ready")
    pipe.recv()
    work(clients, WARM_UP_S)
    begin = time.perf_counter()
    moved = work(clients, seconds)
    took_s = time.perf_counter() - begin
    pipe.send("done")
    pipe.send((moved, took_s))
    time.sleep(OPEN_S_MAX)
