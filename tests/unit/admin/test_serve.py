import os
import socket
from pathlib import Path

import httpx
import pytest
import trio

from meshlb.admin.api import BODY_BYTES_MAX, build_app
from meshlb.admin.serve import serve
from meshlb.config import AdminSettings, UnixPath
from meshlb.errors import ListenError
from meshlb.model import Address
from tests.fakes.node import FakeNode


def settings(**toml: str) -> AdminSettings:
    return AdminSettings.model_validate(toml)


async def test_a_free_port_is_taken_reported_and_given_back() -> None:
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, settings(bind="127.0.0.1:0"), build_app(FakeNode()))
        assert isinstance(bound, Address)
        async with httpx.AsyncClient(base_url=f"http://{bound}", timeout=60) as client:
            answer = await client.get("/v1/status")
            assert answer.json()["node"] == "lb-1"
            assert "server" not in answer.headers
            nursery.cancel_scope.cancel()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((bound.host, bound.port))


async def test_a_body_over_the_limit_is_refused_and_changes_nothing() -> None:
    node = FakeNode()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, settings(bind="127.0.0.1:0"), build_app(node))
        async with httpx.AsyncClient(base_url=f"http://{bound}", timeout=60) as client:
            body = b'{"state": "draining"}'
            path = "/v1/pools/app/backends/s1/state"
            answer = await client.put(path, content=body.ljust(BODY_BYTES_MAX + 1))
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "too_large"
            assert node.states == {}
            answer = await client.put(path, content=body.ljust(BODY_BYTES_MAX))
            assert answer.status_code == 200
        nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=f"cannot listen on {bind}: the address is in use"):
            await serve(settings(bind=bind), build_app(FakeNode()))


async def test_a_unix_socket_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, settings(bind=f"unix:{path}"), build_app(FakeNode()))
        assert bound == UnixPath(path)
        assert path.stat().st_mode & 0o777 == 0o600
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=60
        ) as client:
            assert (await client.get("/healthz")).status_code == 200
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_the_socket_of_a_killed_node_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, settings(bind=f"unix:{path}"), build_app(FakeNode()))
        nursery.cancel_scope.cancel()


async def test_the_socket_of_a_live_node_does_not(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(ListenError, match="in use"):
            await serve(settings(bind=f"unix:{path}"), build_app(FakeNode()))
        assert path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("keep me")
    with pytest.raises(ListenError):
        await serve(settings(bind=f"unix:{path}"), build_app(FakeNode()))
    assert path.read_text() == "keep me"


async def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("s3cret\n")
    guarded = settings(bind="127.0.0.1:0", token_file=str(token_file))
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, guarded, build_app(FakeNode()))
        async with httpx.AsyncClient(base_url=f"http://{bound}", timeout=60) as client:
            assert (await client.get("/v1/status")).status_code == 401
            headers = {"Authorization": "Bearer s3cret"}
            assert (await client.get("/v1/status", headers=headers)).status_code == 200
        nursery.cancel_scope.cancel()


async def test_a_token_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    guarded = settings(bind="127.0.0.1:0", token_file=str(tmp_path / "none"))
    with pytest.raises(ListenError, match="No such file"):
        await serve(guarded, build_app(FakeNode()))
    assert os.listdir(tmp_path) == []


async def test_stopping_does_not_wait_for_an_idle_client() -> None:
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, settings(bind="127.0.0.1:0"), build_app(FakeNode()))
        assert isinstance(bound, Address)
        idle = await trio.open_tcp_stream(bound.host, bound.port)
        await idle.send_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert await idle.receive_some(64)
        with trio.fail_after(60):
            nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()
    await idle.aclose()
