"""A new process takes a node over while everything goes on, or fails to, and nobody notices."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import fetch
from tests.peers.harness.live import Live, live
from tests.peers.harness.mesh import START_PATIENCE_S, Mesh, Node
from tests.peers.harness.ports import free_port
from tests.peers.test_reload import eventually, meshlb, more, replace_in_file
from tests.peers.test_workers import workers


class Processes:
    """The process ids that a node has had after its first one, which the tests must end."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def note(self, node: Node) -> int:
        pid = int(node.status()["pid"])
        if pid != node.pid and pid not in self.pids:
            self.pids.append(pid)
        return pid

    def end(self, *, by: signal.Signals = signal.SIGKILL) -> None:
        for pid in self.pids:
            if is_there(pid):
                os.kill(pid, by)


def is_there(pid: int) -> bool:
    """Whether the process runs; one that nobody waits for stays as a zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes()
    yield found
    found.pids = started_with(tmp_path)
    found.end()


def started_with(folder: Path) -> list[int]:
    """Whoever has a file below `folder` in its command line: also who was never heard of."""
    pids = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{folder}/".encode() in place.read_bytes():
                pids.append(int(place.parent.name))
        except OSError:
            continue
    return pids


async def order(node: Node) -> tuple[int, dict[str, Any]]:
    """It answers once the new program has started, which takes long on a busy machine."""
    ask = partial(node.ask, "/v1/upgrade", method="POST", timeout_s=START_PATIENCE_S)
    return await asyncio.to_thread(ask)


async def upgraded(node: Node, processes: Processes) -> int:
    status, answer = await order(node)
    assert status == 202, answer
    await eventually(lambda: pid_of(node) == answer["pid"], "the new process answers")
    await eventually(lambda: node_is_ready(node), "the new process serves")
    return processes.note(node)


def node_is_ready(node: Node) -> bool:
    """As `Node.is_ready`, whichever process is the node now."""
    try:
        return node.ask("/readyz")[0] == 200
    except (OSError, HTTPException):
        return False


def tunnels(node: Node) -> float:
    return node.metric("meshlb_connections", kind="tunnels")


async def all_moved(node: Node, going: Live) -> None:
    await eventually(lambda: tunnels(node) == len(going.tunnels), "all tunnels have moved")


@pytest.mark.parametrize("relay", ["off", "auto"])
def test_a_new_process_takes_over_all_sockets_and_loses_no_byte(
    start_backends: StartBackends, start_mesh: StartMesh, processes: Processes, relay: str
) -> None:
    mesh = start_mesh(backends=start_backends("mirror", 2), size=1)
    (node,) = mesh.nodes
    restart_with(mesh, relay)

    async def scenario() -> None:
        async with live(node.door, newcomers=True) as going:
            await more(going, ["s1", "s2"])
            told = await asyncio.to_thread(meshlb, node, "upgrade")
            first = processes.note(node)
            assert told.stdout == f"upgraded: process {first}\n", told
            assert first != node.pid
            await all_moved(node, going)
            assert await asyncio.to_thread(node.wait) == 0
            await more(going, ["s1", "s2"])
            before = going.sent_bytes()
            await eventually(lambda: going.sent_bytes() > before, "tunnels go on")
            await eventually(lambda: going.newcomers > 20, "newcomers are let in")
            if relay == "off":
                return
            # Once more, by signal, from the process that has taken over.
            os.kill(first, signal.SIGUSR2)
            await eventually(lambda: pid_of(node) not in (None, first), "a third process serves")
            processes.note(node)
            await eventually(lambda: not is_there(first), "the second process is gone")
            await all_moved(node, going)
            await more(going, ["s1", "s2"])

    asyncio.run(scenario())
    assert node.status()["pins"] > 0
    processes.end(by=signal.SIGTERM)
    for pid in processes.pids:
        wait_until(lambda pid=pid: not is_there(pid), "the last process leaves")


def test_workers_hand_over_to_as_many_as_the_new_program_has(
    start_backends: StartBackends, start_mesh: StartMesh, processes: Processes
) -> None:
    mesh = start_mesh(backends=start_backends("mirror", 2), size=1, workers=2)
    (node,) = mesh.nodes
    state = re.search("data_dir = .*", node.config.read_text())
    assert state is not None
    assert node.terminate(timeout_s=20) == 0
    replace_in_file(node, (state[0], ""))
    mesh.start()

    async def scenario() -> None:
        async with live(node.door, newcomers=True) as going:
            before = 2
            pins = 0
            for after in (3, 0, 2):
                serving = [process["pid"] for process in workers(node)]
                assert len(serving) == before
                replace_in_file(node, (f"workers = {before}", f"workers = {after}"))
                await upgraded(node, processes)
                await all_moved(node, going)
                await more(going, ["s1", "s2"])
                await eventually(
                    lambda pids=serving: not any(map(is_there, pids)), "those before are gone"
                )
                assert int(node.status()["pins"]) >= pins, "the table is handed over"
                pins = int(node.status()["pins"])
                before = after
            assert all(worker["tunnels"] for worker in workers(node)), "all have got some"

    asyncio.run(scenario())
    processes.end(by=signal.SIGTERM)


def test_datagrams_are_answered_through_reloads_and_upgrades_of_a_node_with_workers(
    start_backends: StartBackends, start_mesh: StartMesh, processes: Processes
) -> None:
    mesh = start_mesh(backends=start_backends("mirror", 1), size=1, workers=2)
    (node,) = mesh.nodes
    with Echoes() as first, Echoes() as second, socket.socket(type=socket.SOCK_DGRAM) as client:
        port = free_port()
        with node.config.open("a") as file:
            file.write(
                f'[[listener]]\nname = "dns"\nbind = "127.0.0.1:{port}"\nprotocol = "udp"\n'
                'pool = "dns"\n[pool.dns]\nsticky = [{ by = "source-ip" }]\n'
                '[pool.dns.health]\nprotocol = "udp"\n'
                f'[[pool.dns.backend]]\nname = "d1"\naddress = "127.0.0.1:{first.port}"\n'
            )
        client.settimeout(0.5)
        client.connect(("127.0.0.1", port))
        assert meshlb(node, "reload").returncode == 0
        assert first.answers(client)
        asyncio.run(upgraded(node, processes))
        assert len(workers(node)) == 2
        assert first.answers(client)
        replace_in_file(node, (f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"))
        assert meshlb(node, "reload").returncode == 0
        assert second.answers(client)


class Echoes:
    """A UDP backend in this process."""

    def __init__(self) -> None:
        self._sock = socket.socket(type=socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Echoes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"END", ("127.0.0.1", self.port))
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        while (heard := self._sock.recvfrom(1_000))[0] != b"END":
            self._sock.sendto(heard[0] + b" %d" % self.port, heard[1])

    def answers(self, client: socket.socket) -> bool:
        """Whether it is this one that answers, after a while: a datagram may be lost."""
        for number in range(100):
            client.send(b"%d" % number)
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                if client.recv(1_000).endswith(b" %d" % self.port):
                    return True
        return False


def restart_with(mesh: Mesh, relay: str) -> None:
    (node,) = mesh.nodes
    assert node.terminate() == 0
    replace_in_file(node, ("[node]", f'[node]\nkernel_relay = "{relay}"'))
    mesh.start()


def pid_of(node: Node) -> int | None:
    try:
        return int(node.status()["pid"])
    except (OSError, HTTPException):
        return None  # Between two processes.


@pytest.mark.parametrize("count", [0, 2])
def test_a_new_process_that_fails_leaves_the_old_one_serving_with_everything(
    start_backends: StartBackends, start_mesh: StartMesh, processes: Processes, count: int
) -> None:
    backends = start_backends("mirror", 2)
    mesh = start_mesh(backends=backends, size=1, workers=count)
    (node,) = mesh.nodes
    good = node.config.read_text()
    taken = backends[0].port

    async def refused(*changes: tuple[str, str]) -> str:
        node.config.write_text(good)
        replace_in_file(node, *changes)
        status, answer = await order(node)
        assert status == 409, answer
        return str(answer["error"])

    async def scenario() -> None:
        async with live(node.door, newcomers=True) as going:
            said = await refused(('pool = "app"', 'pool = "gone"'), ("max_head", "max_heads"))
            assert "listener[0].pool" in said
            assert "max_heads: unknown key" in said
            assert "another node" in await refused((f'"{node.name}"', '"lb-9"'))
            # It fails once the old process has given up its place in the cluster.
            node.config.write_text(good)
            replace_in_file(node, (node.cluster_address, f"127.0.0.1:{taken}"))
            told = await asyncio.to_thread(meshlb, node, "upgrade")
            assert told.returncode == 1
            assert "ended with status 1" in told.stderr
            await eventually(lambda: node_is_ready(node), "the old process serves again")
            assert processes.note(node) == node.pid
            assert all(worker["restarts"] == 0 for worker in workers(node))
            await more(going, ["s1", "s2"])
            assert tunnels(node) == len(going.tunnels)
            node.config.write_text(good)
            await upgraded(node, processes)
            await all_moved(node, going)

    asyncio.run(scenario())
    assert node.wait() == 0


def test_a_member_that_is_upgraded_keeps_the_sessions_of_its_cluster(
    start_backends: StartBackends, start_mesh: StartMesh, processes: Processes
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), size=3)

    async def ask_all() -> dict[str, set[str]]:
        return {
            f"key-{number}": {
                (await fetch(node.door, fields={"X-Session": f"key-{number}"})).backend
                for node in mesh.nodes
            }
            for number in range(40)
        }

    before = asyncio.run(ask_all())
    for node in mesh.nodes:
        asyncio.run(upgraded(node, processes))
        assert asyncio.run(ask_all()) == before
    for node in mesh.nodes:
        wait_until(lambda node=node: set(node.members().values()) == {"alive"}, "all are alive")
