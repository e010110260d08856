"""HTTP as real clients and real backends speak it: curl, raw sockets, nginx, http.server."""

import asyncio
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.backends import require
from tests.peers.harness.child import wait_until
from tests.peers.harness.http import Connection, fetch
from tests.peers.harness.mesh import COOKIE, Node

LARGE_BYTES = 24 * 2**20


@pytest.fixture
def node(start_backends: StartBackends, start_mesh: StartMesh) -> Iterator[Node]:
    """One node before one http.server."""
    return start_mesh(backends=start_backends("plain", 1), sticky=[COOKIE], size=1).nodes[0]


def curl(*arguments: str, give: bytes = b"") -> bytes:
    require("curl")
    ran = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "30", *arguments],
        input=give,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


def test_everything_that_curl_asks_of_one_node_comes_out_right(node: Node, tmp_path: Path) -> None:
    """One node for many questions: starting it takes longer than all of them."""
    url = f"http://127.0.0.1:{node.port}"
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * (LARGE_BYTES // 256))
    digest = hashlib.sha256(upload.read_bytes()).hexdigest()

    with_keep_alive = curl("--write-out", "%{num_connects} ", *[f"{url}/?{n}" for n in range(5)])
    assert with_keep_alive.split()[1::2] == [b"1", b"0", b"0", b"0", b"0"]

    chunked = ["--header", "Transfer-Encoding: chunked", "--data-binary", f"@{upload}"]
    assert json.loads(curl(*chunked, f"{url}/digest"))["sha256"] == digest

    sized = ["--data-binary", f"@{upload}", "--header", "Expect: 100-continue"]
    answer = json.loads(curl(*sized, f"{url}/digest"))
    assert (answer["sha256"], answer["size"]) == (digest, LARGE_BYTES)

    head = curl("--head", f"{url}/large?size=1000").decode().lower()
    assert "content-length: 1000" in head
    assert curl("--include", f"{url}/status/204").startswith(b"HTTP/1.1 204")
    assert curl("--include", f"{url}/status/304").startswith(b"HTTP/1.1 304")
    assert curl(f"{url}/close") == b"s1\n"

    large = curl(f"{url}/large?size={LARGE_BYTES}")
    assert hashlib.sha256(large).hexdigest() == digest
    slow = curl("--limit-rate", "12M", f"{url}/large?size={LARGE_BYTES}")
    assert hashlib.sha256(slow).hexdigest() == digest


def test_responses_without_bodies_leave_the_connection_usable(node: Node) -> None:
    async def ask() -> list[tuple[int, bytes]]:
        async with await Connection.open(node.port) as connection:
            responses = [
                await connection.request("/large?size=100", method="HEAD"),
                await connection.request("/status/204"),
                await connection.request("/status/304"),
                await connection.request("/chunks?count=2", method="HEAD"),
                await connection.request("/"),
            ]
            return [(response.status, response.body) for response in responses]

    assert asyncio.run(ask()) == [(200, b""), (204, b""), (304, b""), (200, b""), (200, b"s1\n")]


def test_trailers_pass_both_ways(node: Node) -> None:
    async def ask() -> None:
        async with await Connection.open(node.port) as connection:
            response = await connection.request("/chunks?count=300", fields={"TE": "trailers"})
            assert response.trailers == (("x-checksum", hashlib.sha256(response.body).hexdigest()),)
            connection.writer.write(
                b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                b"Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n"
            )
            assert json.loads((await connection.response()).body)["trailers"] == {"x-sum": "42"}

    asyncio.run(ask())


def test_pipelined_requests_are_answered_in_their_order(node: Node) -> None:
    async def ask() -> list[bytes]:
        targets = ["/slow?ms=150", "/large?size=5", "/request?third", "/slow?ms=1"]
        async with await Connection.open(node.port) as connection:
            for target in targets:
                connection.writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            return [(await connection.response()).body for _ in targets]

    slow, large, third, last = asyncio.run(ask())
    assert (slow, large, last) == (b"s1\n", bytes(range(5)), b"s1\n")
    assert json.loads(third)["target"] == "/request?third"


def test_100_continue_comes_before_the_body_and_from_the_backend(node: Node) -> None:
    async def ask() -> None:
        async with await Connection.open(node.port) as connection:
            connection.writer.write(
                b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert (await connection.response()).status == 100
            connection.writer.write(b"hello")
            answer = json.loads((await connection.response()).body)
            assert answer["sha256"] == hashlib.sha256(b"hello").hexdigest()

    asyncio.run(ask())


def test_a_reader_that_stops_stops_the_backend_and_not_the_node(node: Node) -> None:
    """256 MiB to a client that reads nothing for a while: the node's memory must not hold it."""
    size = 256 * 2**20

    async def ask() -> None:
        resident_before = node.resident_bytes
        async with await Connection.open(node.port) as connection:
            connection.writer.write(f"GET /large?size={size} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await asyncio.sleep(1.0)
            assert (await fetch(node.port)).status == 200
            assert node.resident_bytes - resident_before < 16 * 2**20
            await connection.reader.readuntil(b"\r\n\r\n")
            received = 0
            while received < size:
                received += len(await connection.reader.read(2**20))
            assert received == size

    asyncio.run(ask())


def test_an_early_answer_reaches_a_client_that_is_still_sending(node: Node) -> None:
    async def ask() -> int:
        async with await Connection.open(node.port) as connection:
            connection.writer.write(
                b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
            )
            connection.writer.write(bytes(100_000))
            return (await connection.response()).status

    assert asyncio.run(ask()) == 403


def test_backends_see_the_host_the_client_and_no_cookie_of_ours(node: Node) -> None:
    async def ask() -> dict[str, str]:
        async with await Connection.open(node.port) as connection:
            cookie = (await connection.request("/")).cookie
            assert cookie is not None
            assert cookie.startswith("MESHLB=")
            response = await connection.request(
                "/request",
                fields={
                    "Cookie": f"theme=dark; {cookie}; lang=de",
                    "X-Forwarded-For": "6.6.6.6",
                    "Forwarded": "for=6.6.6.6",
                    "Connection": "keep-alive, X-Hop",
                    "X-Hop": "1",
                    "Keep-Alive": "timeout=5",
                },
            )
            assert response.cookie is None, "a cookie that is good is not set again"
            return {name.lower(): value for name, value in json.loads(response.body)["fields"]}

    seen = asyncio.run(ask())
    assert seen["host"] == "app.test"
    assert seen["cookie"] == "theme=dark; lang=de"
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == "app.test"
    assert {"forwarded", "x-hop", "keep-alive"} & seen.keys() == set()


def test_a_large_file_of_nginx_arrives_whole(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    backends = start_backends("nginx", 1)
    content = bytes(range(256)) * (LARGE_BYTES // 256)
    (backends[0].folder / "files" / "large").write_bytes(content)
    node = start_mesh(backends=backends, size=1).nodes[0]
    assert curl(f"http://127.0.0.1:{node.port}/files/large") == content


def test_without_a_backend_clients_get_503_with_retry_after(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    backends = start_backends("plain", 1)
    node = start_mesh(backends=backends, size=1).nodes[0]
    backends[0].kill()

    # Before a health check has noticed, the only backend fails; afterwards there is none.
    assert asyncio.run(fetch(node.port)).status in (502, 503)
    wait_until(lambda: node.backend_states()["s1"] == "down", "s1 is down")
    response = asyncio.run(fetch(node.port))
    assert response.status == 503
    assert response.field("retry-after")
    assert response.field("server") == "meshlb"


def test_a_backend_that_does_not_answer_in_time_gets_its_client_504(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("plain", 1), size=1, response_timeout="300ms")
    assert asyncio.run(fetch(mesh.ports[0], "/slow?ms=1500")).status == 504
