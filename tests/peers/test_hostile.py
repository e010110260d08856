"""Strangers at the ports: nothing crashes or changes, memory stays bounded, all is counted."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Iterator

import pytest

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import Connection, fetch
from tests.peers.harness.mesh import HEADER, Mesh, Node, Plan, new_secret

FORGED = 10_000
GARBAGE_STREAMS = 50
GROWTH_MAX_BYTES = 32 * 2**20


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


GET, POST, HOST, CHUNKED = (
    "GET / HTTP/1.1",
    "POST / HTTP/1.1",
    "Host: a",
    "Transfer-Encoding: chunked",
)

MALFORMED = {
    "no version": head("GET /"),
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "another version": head("GET / HTTP/3.0", HOST),
    "no host": head(GET),
    "two hosts": head(GET, HOST, "Host: b"),
    "space before colon": head(GET, "Host : a"),
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "folded field": head(GET, HOST, "X: b", " c"),
    "NUL in a value": head(GET, HOST, "X: b\0c"),
    "length and chunked": head(POST, HOST, "Content-Length: 3", CHUNKED) + b"0\r\n\r\n",
    "two lengths": head(POST, HOST, "Content-Length: 3", "Content-Length: 4") + b"abcd",
    "signed length": head(POST, HOST, "Content-Length: +3") + b"abc",
    "chunked twice": head(POST, HOST, f"{CHUNKED}, chunked") + b"0\r\n\r\n",
    "unknown coding last": head(POST, HOST, f"{CHUNKED}, x"),
}


def test_forged_datagrams_and_arbitrary_bytes_at_the_cluster_port_change_nothing(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 1))
    target = mesh.nodes[0]
    members_before = target.members()
    resident_before = target.resident_bytes

    genuine = captured_datagram(mesh)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", target.cluster_port))
        for number, forged in enumerate(forgeries(genuine)):
            with contextlib.suppress(OSError):
                sender.send(forged)
            if number % 100 == 0:  # lets the node empty its socket buffer, so that it sees them all
                target.ask("/healthz")
    asyncio.run(pour_garbage(target.cluster_port, streams=GARBAGE_STREAMS))

    wait_until(
        lambda: target.metric("meshlb_datagrams_refused_total") > FORGED / 2, "forgeries counted"
    )
    assert target.metric("meshlb_handshakes_refused_total") >= GARBAGE_STREAMS
    wait_until(lambda: target.members() == members_before, "nobody is doubted")
    assert all(node.is_running for node in mesh.nodes)
    assert target.resident_bytes - resident_before < GROWTH_MAX_BYTES
    assert asyncio.run(fetch(target.port)).status == 200


def captured_datagram(mesh: Mesh) -> bytes:
    """A datagram that a node of this cluster sent, caught at the address of a dead member."""
    victim = mesh.nodes[-1]
    victim.kill()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tap:
        tap.settimeout(60)
        tap.bind(("127.0.0.1", victim.cluster_port))
        datagram = tap.recv(65_536)
    victim.start()
    mesh.wait_ready()
    return datagram


def forgeries(genuine: bytes) -> Iterator[bytes]:
    """Noise, and a genuine datagram to another member with a few bits turned, cut or extended."""
    for _ in range(FORGED // 2):
        yield random.randbytes(random.choice((0, 1, 20, 60, 200, 1_400, 9_000)))
        damaged = bytearray(genuine)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        yield bytes(damaged[: random.choice((len(damaged), random.randrange(len(damaged)))) or 1])


async def pour_garbage(port: int, *, streams: int) -> None:
    """Random bytes, huge declared lengths and silence, each over a connection of its own."""

    async def pour(number: int) -> None:
        opening = random.choice((b"", b"\xff" * 64, b"\x00" * 64, b"GET / HTTP/1.1\r\n\r\n"))
        with contextlib.suppress(OSError):
            async with await Connection.open(port) as connection:
                connection.writer.write(opening + os.urandom(random.randint(0, 100_000)))
                await connection.writer.drain()
                if number % 2:
                    connection.writer.write_eof()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(connection.reader.read(-1), 1.0)

    async with asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(pour(number))


@pytest.mark.parametrize("workers", [0, 2])
def test_malformed_requests_get_400_and_the_end_of_their_connection(
    start_backends: StartBackends, start_mesh: StartMesh, workers: int
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 1), size=1, workers=workers)
    node = mesh.nodes[0]

    async def refused_status(sent: bytes) -> int:
        async with await Connection.open(node.port) as connection:
            connection.writer.write(sent)
            connection.writer.write_eof()
            response = await connection.response()
            assert response.field("server") == "meshlb"
            assert await connection.reader.read(-1) == b"", "the connection went on"
            return response.status

    statuses = {what: asyncio.run(refused_status(sent)) for what, sent in MALFORMED.items()}
    assert {
        what: status for what, status in statuses.items() if status not in (400, 501, 505)
    } == {}
    too_large = head(GET, HOST, *["X-Filler: abcdefgh"] * 3_000)
    assert asyncio.run(refused_status(too_large)) == 431
    assert asyncio.run(fetch(node.port)).status == 200
    malformed = sum(status == 400 for status in statuses.values())
    wait_until(  # Workers tell what they have counted a moment later.
        lambda: node.metric("meshlb_malformed_requests_total") > malformed, "they are counted"
    )


def test_arbitrary_bytes_at_the_listener_leave_the_node_well(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 1), size=1)
    node = mesh.nodes[0]
    resident_before = node.resident_bytes
    for _ in range(5):
        asyncio.run(pour_garbage(node.port, streams=60))
    assert node.resident_bytes - resident_before < GROWTH_MAX_BYTES
    assert asyncio.run(fetch(node.port)).status == 200


@pytest.mark.parametrize("what", ["secret", "cluster name", "name of a live member"])
def test_a_stranger_is_refused_says_why_in_its_log_and_changes_no_view(
    what: str, start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    backends = start_backends("nginx", 1)
    mesh = start_mesh(backends=backends, size=2)
    folder = mesh.nodes[0].folder.parent / "stranger"
    stranger = Node("lb-2" if what == "name of a live member" else "stranger", folder)
    plan = Plan(
        backends=backends,
        sticky=[HEADER],
        secret=new_secret() if what == "secret" else mesh.plan.secret,
        cluster="another" if what == "cluster name" else mesh.plan.cluster,
    )
    stranger.write_config(plan, mesh.nodes)
    members_before = mesh.nodes[0].members()

    stranger.start()
    wait_until(lambda: "refused" in stranger.output(), "the stranger's log says that it is refused")

    assert what.split()[0] in stranger.output()
    assert stranger.is_running, "a refused node goes on trying"
    wait_until(lambda: mesh.nodes[0].members() == members_before, "nobody is doubted")
    assert plan.secret not in stranger.output()


def test_of_two_nodes_with_one_name_the_second_waits_until_the_first_is_gone(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 1), sticky=[HEADER])
    first, *others = mesh.nodes
    address = f"127.0.0.1:{first.cluster_port}"
    second = Node(first.name, first.folder.parent / "second")
    second.write_config(mesh.plan, mesh.nodes)

    second.start()
    wait_until(lambda: "name" in second.output(), "the second is told that its name is taken")
    for node in others:
        assert known_address(node, first.name) == address
    assert not second.is_ready
    assert asyncio.run(fetch(first.port, fields={"X-Session": "key"})).status == 200

    first.kill()
    wait_until(lambda: second.is_ready, "the name is the second's")
    for node in others:
        wait_until(
            lambda node=node: known_address(node, first.name) == f"127.0.0.1:{second.cluster_port}",
            "it is known at its address",
        )
    assert asyncio.run(fetch(second.port, fields={"X-Session": "key"})).status == 200


def known_address(node: Node, name: str) -> str:
    """Where `node` believes the member of that name to be."""
    members = node.ask("/v1/members")[1]["members"]
    return str(next(member["address"] for member in members if member["name"] == name))
