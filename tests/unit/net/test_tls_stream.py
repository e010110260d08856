"""TLS over real loopback sockets, both ends in the hands of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import open_stream_to_socket_listener

from meshlb.net.mutual_tls import MutualTls
from meshlb.net.tls_stream import TlsStream
from tests.fakes.certificates import DAY, Authority


@pytest.fixture
def tls(tmp_path: Path) -> MutualTls:
    authority = Authority(tmp_path)
    files = authority.sign("a", names=("a", "b.example"))
    return MutualTls.load(cert=files.cert, key=files.key, ca=authority.ca, verify_names=True)


@asynccontextmanager
async def pair(client: MutualTls, server: MutualTls) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        raw = await open_stream_to_socket_listener(listener)
        accepted = await listener.accept()
    async with (
        TlsStream(raw, client.client, server_side=False) as dialler,
        TlsStream(accepted, server.server, server_side=True) as dialled,
    ):
        yield dialler, dialled


async def shake(one: TlsStream, other: TlsStream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.do_handshake)
        nursery.start_soon(other.do_handshake)


async def test_both_learn_the_names_of_the_other(tls: MutualTls) -> None:
    async with pair(tls, tls) as (dialler, dialled):
        await shake(dialler, dialled)
        assert dialler.names() == dialled.names() == ("a", "b.example")


async def test_much_passes_both_ways_at_once_and_in_order(tls: MutualTls) -> None:
    sent = bytes(range(256)) * 8_000
    async with pair(tls, tls) as (dialler, dialled):
        await shake(dialler, dialled)
        got: dict[TlsStream, bytes] = {dialler: b"", dialled: b""}

        async def send(stream: TlsStream) -> None:
            for start in range(0, len(sent), 70_001):
                await stream.send_all(sent[start : start + 70_001])

        async def receive(stream: TlsStream) -> None:
            while len(got[stream]) < len(sent):
                got[stream] += await stream.receive_some()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for stream in (dialler, dialled):
                    nursery.start_soon(send, stream)
                    nursery.start_soon(receive, stream)
        assert set(got.values()) == {sent}


async def test_the_end_of_the_connection_is_the_end_of_the_stream(tls: MutualTls) -> None:
    async with pair(tls, tls) as (dialler, dialled):
        await shake(dialler, dialled)
        await dialler.send_all(b"last words")
        await dialler.aclose()
        with trio.fail_after(60):
            assert await dialled.receive_some() == b"last words"
            assert await dialled.receive_some() == b""


async def test_a_changed_record_breaks_the_stream(tls: MutualTls) -> None:
    async with pair(tls, tls) as (dialler, dialled):
        await shake(dialler, dialled)
        await dialler.raw.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(60):
            await dialled.receive_some()


async def test_a_refused_client_is_told_why(tls: MutualTls, tmp_path: Path) -> None:
    """`trio.SSLStream` would close without the alert."""
    authority = Authority(tmp_path, "again")
    stale = authority.sign("b", begins=-3 * DAY, ends=-DAY)
    fresh = authority.sign("c")
    one = MutualTls.load(cert=stale.cert, key=stale.key, ca=authority.ca, verify_names=True)
    other = MutualTls.load(cert=fresh.cert, key=fresh.key, ca=authority.ca, verify_names=True)
    async with pair(one, other) as (dialler, dialled), trio.open_nursery() as nursery:

        async def refuse() -> None:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await dialled.do_handshake()
            assert "expired" in str(caught.value.__cause__)

        nursery.start_soon(refuse)
        await dialler.do_handshake()
        with pytest.raises(trio.BrokenResourceError) as caught, trio.fail_after(60):
            await dialler.receive_some()
        assert "CERTIFICATE_EXPIRED" in str(caught.value.__cause__)


async def test_a_peer_that_hangs_up_in_mid_handshake_breaks_it(tls: MutualTls) -> None:
    async with pair(tls, tls) as (dialler, dialled):
        await dialler.raw.send_all(b"\x16\x03\x01")
        await dialler.aclose()
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(60):
            await dialled.do_handshake()
