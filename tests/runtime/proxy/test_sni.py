"""TLS passed through by name: the backend, which the test plays, ends it."""

import ssl
from pathlib import Path

import pytest
import trio

from meshlb.proxy.greeting import BROKEN_OFF, PLAIN, TIMED_OUT
from meshlb.proxy.overhearing import Overhearing
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.tls import NAME, Site
from tests.runtime.proxy.wire import RESET_ON_CLOSE, Origin, Wire

OTHER = "x.other.example"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def routes(origin: Origin, more: str = "") -> dict[str, str]:
    """The settings of a rig whose second pool has one backend, `origin`."""
    sni = '[[listener.sni]]\nnames = ["*.other.example", "y.example"]\npool = "other"'
    other = f'[[pool.other.backend]]\nname = "o1"\naddress = "127.0.0.1:{origin.port}"'
    return {"protocol": "tcp", "listener": f"{more}\n{sni}", "sticky": other}


async def shake_hands(rig: Rig, site: Site, name: str | None) -> tuple[Wire, trio.SSLStream]:
    raw = await rig.client()
    context = site.trust()
    context.check_hostname = False
    return raw, trio.SSLStream(raw.stream, context, server_hostname=name, https_compatible=True)


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        (NAME, "app"),
        (OTHER, "other"),
        ("y.example", "other"),
        ("a.b.example", "app"),
        (None, "app"),
    ],
)
async def test_a_name_leads_to_its_pool_and_any_other_to_the_listeners(tmp_path, site, name, pool):
    other = Origin()
    async with scripted(tmp_path, **routes(other)) as rig:
        origin = other if pool == "other" else rig.origins["s1"]
        _, client = await shake_hands(rig, site, name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(site.files.cert, site.files.key)

        async def answer() -> None:
            wire = await origin.accept()
            server = trio.SSLStream(wire.stream, context, server_side=True)
            await server.send_all(b"hello from " + pool.encode())
            assert await server.receive_some(100) == b"thanks"
            await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert await client.receive_some(100) == b"hello from " + pool.encode()
            await client.send_all(b"thanks")
            assert await client.receive_some(100) == b""
        await client.aclose()
        other.close()


async def test_a_hello_in_single_bytes_arrives_whole_and_first(tmp_path, site):
    other = Origin()
    async with scripted(tmp_path, **routes(other)) as rig:
        said = hello(site, OTHER)
        client = await rig.client()
        await client.dribble(said)
        await client.say(b"and more")
        backend = await other.accept()
        await backend.hear(said + b"and more")
        client.stream.socket.close()
        await backend.gone()
        other.close()


def hello(site: Site, name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = site.trust().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def test_what_is_no_tls_is_cut_and_counted(tmp_path):
    other = Origin()
    async with scripted(tmp_path, **routes(other)) as rig:
        client = await rig.exchange(b"GET / HTTP/1.1\r\n\r\n")
        await client.gone()
        assert dict(rig.tally.handshakes_failed) == {PLAIN: 1}
        other.close()


async def test_a_client_that_stalls_or_breaks_off_in_its_hello_is_let_go(tmp_path, site, unhurried):
    other = Origin()
    async with scripted(tmp_path, **routes(other, 'timeouts = { head = "100ms" }')) as rig:
        said = hello(site, OTHER)
        stalled = await rig.exchange(said[:100])
        await stalled.gone()
        for resets in (True, False):
            leaving = await rig.exchange(said[:100])
            await eventually(lambda: rig.tally.connections == 1)
            assert isinstance(rig.downstreams[0], Overhearing)
            if resets:
                leaving.stream.socket.setsockopt(
                    trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET_ON_CLOSE
                )
            leaving.stream.socket.close()
            await rig.settled()
        looking = await rig.client()
        looking.stream.socket.close()
        await rig.settled()
        assert dict(rig.tally.handshakes_failed) == {TIMED_OUT: 1, BROKEN_OFF: 2}
        other.close()
