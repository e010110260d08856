"""TLS towards backends that the test plays."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from meshlb.config.loader import load
from tests.fakes.certificates import Files
from tests.runtime.proxy.messages import get, head, ok
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.tls import NAME, Site, TlsEnd
from tests.runtime.proxy.wire import RESET_ON_CLOSE, Wire

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def pool(site: Site, **options: str) -> str:
    shown = {"ca": f'"{site.authority.ca}"', "server_name": f'"{NAME}"', **options}
    return f"tls = {{ {', '.join(f'{name} = {value}' for name, value in shown.items() if value)} }}"


def backend_context(files: Files, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class Farm:
    """The backend of a rig: shakes hands with everybody, and hands over whoever asks."""

    def __init__(self, rig: Rig, context: ssl.SSLContext) -> None:
        self.rig = rig
        self.context = context
        self.resumed: list[bool] = []
        self._asking, self.asked = trio.open_memory_channel[Wire](100)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                raw = await self.rig.accept()
                nursery.start_soon(self.greet, raw)

    async def greet(self, raw: Wire) -> None:
        tls = trio.SSLStream(raw.stream, self.context, server_side=True)
        try:
            await tls.do_handshake()
            self.resumed.append(bool(tls._ssl_object.session_reused))
            wire = Wire(TlsEnd(tls))
            wire._heard = await tls.receive_some()
        except trio.BrokenResourceError:
            return
        if wire._heard:
            await self._asking.send(wire)

    async def accept(self) -> Wire:
        return await self.asked.receive()


@asynccontextmanager
async def farm(
    directory: Path, site: Site, *, context: ssl.SSLContext | None = None, **settings: str
) -> AsyncIterator[tuple[Rig, Farm]]:
    """A rig whose backend speaks TLS, and has been probed."""
    settings.setdefault("pool", pool(site))
    async with scripted(directory, may_listen=False, **settings) as rig:
        made = Farm(rig, context or backend_context(site.files))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            rig.may_listen.set()
            await rig.plane.accepting.wait()
            yield rig, made
            nursery.cancel_scope.cancel()


async def exchange(rig: Rig, backends: Farm, *fields: bytes) -> None:
    client = await rig.exchange(get())
    backend = await backends.accept()
    await backend.message()
    await backend.say(ok(b"hello", *fields))
    assert (await client.message()).body == b"hello"
    client.stream.socket.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_connection_to_a_backend_is_secured_and_kept(tmp_path, site, version):
    """Tickets come behind the first handshake, and do not make an idle connection a used one."""
    async with farm(tmp_path, site, context=backend_context(site.files, version)) as (
        rig,
        backends,
    ):
        client = await rig.exchange(get())
        backend = await backends.accept()
        for body in (b"one", b"x" * 100_000):
            await backend.message()
            await backend.say(ok(body))
            assert (await client.message()).body == body
            await rig.settled(clients=1, idle_upstreams=1, descriptors=2)
            assert rig.backend().idle[0].is_quiet()
            await client.say(get())
        assert rig.plane.counters.connects == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_next_connection_resumes_the_session(tmp_path, site, version):
    async with farm(tmp_path, site, context=backend_context(site.files, version)) as (
        rig,
        backends,
    ):
        first = await rig.exchange(get())
        backend = await backends.accept()
        await backend.message()
        await backend.say(ok(b"one")[:-1])
        await first.head()
        before = len(backends.resumed)
        await exchange(rig, backends, b"Connection: close")
        assert backends.resumed[before:] == [True]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"server_name": '"other.example"'}, "Hostname mismatch"),
        ({"server_name": ""}, "IP address mismatch"),
        ({"ca": ""}, "unable to get local issuer certificate"),
    ],
)
async def test_a_backend_that_is_not_believed_is_down_and_says_why(tmp_path, site, options, reason):
    async with farm(tmp_path, site, pool=pool(site, **options)) as (rig, _):
        assert reason in rig.backend().reason
        client = await rig.exchange(get())
        assert (await client.message()).status == 503


async def test_a_backend_that_is_not_believed_any_more_costs_a_502(tmp_path, site):
    async with farm(tmp_path, site) as (rig, backends):
        stranger = site.authority.sign("stranger", names=("other.example",))
        backends.context = backend_context(stranger)
        client = await rig.exchange(get())
        assert (await client.message()).status == 502
        assert rig.plane.counters.connect_failures == 1


async def test_without_verification_anybody_is_believed(tmp_path, site):
    unchecked = pool(site, ca="", server_name="", verify="false")
    async with farm(tmp_path, site, pool=unchecked) as (rig, backends):
        await exchange(rig, backends)


async def test_a_certificate_is_shown_to_backends_that_ask_for_one(tmp_path, site):
    context = backend_context(site.files)
    context.load_verify_locations(site.authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    own = site.authority.sign("lb")
    shown = pool(site, cert=f'"{own.cert}"', key=f'"{own.key}"')
    async with farm(tmp_path, site, context=context, pool=shown) as (rig, backends):
        await exchange(rig, backends)


async def test_probes_ask_by_tls(tmp_path, site):
    health = 'path = "/healthz"\ninterval = "50ms"\nrise = 1\nfall = 1'
    async with scripted(tmp_path, may_listen=False, pool=pool(site), health=health) as rig:
        backends = Farm(rig, backend_context(site.files))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backends.run)
            probe = await backends.accept()
            assert (await probe.message()).line == b"GET /healthz HTTP/1.1"
            await probe.say(ok())
            await eventually(lambda: rig.backend().reason == "")
            assert rig.backend().healthy
            nursery.cancel_scope.cancel()


async def test_a_response_up_to_the_end_that_is_cut_off_is_no_whole_one(tmp_path, site):
    async with farm(tmp_path, site) as (rig, backends):
        client = await rig.exchange(get())
        backend = await backends.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK"), b"a part")
        backend.stream.socket.close()
        await client.broken()


async def test_a_response_up_to_a_goodbye_is_whole(tmp_path, site):
    async with farm(tmp_path, site) as (rig, backends):
        client = await rig.exchange(get())
        backend = await backends.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK"), b"all of it")
        await backend.stream.aclose()
        assert (await client.message()).body == b"all of it"


@pytest.mark.parametrize("resets", [True, False])
async def test_a_backend_that_goes_in_the_handshake_costs_a_502(tmp_path, site, resets):
    async with farm(tmp_path, site) as (rig, backends):

        async def go(raw: Wire) -> None:
            if resets:
                raw.stream.socket.setsockopt(
                    trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET_ON_CLOSE
                )
            raw.stream.socket.close()

        backends.greet = go
        client = await rig.exchange(get())
        assert (await client.message()).status == 502


async def test_a_backend_that_stalls_in_the_handshake_costs_a_504(tmp_path, site):
    impatient = pool(site) + '\nconnect_timeout = "100ms"'
    async with farm(tmp_path, site, pool=impatient) as (rig, backends):

        async def stall(raw: Wire) -> None:
            await trio.sleep_forever()

        backends.greet = stall
        client = await rig.exchange(get())
        assert (await client.message()).status == 504


async def test_a_tunnel_of_tls_on_both_sides_half_closes(tmp_path, site):
    async with farm(tmp_path, site, listener=site.listener, protocol="tcp") as (rig, backends):
        client = await site.client(rig)
        await client.say(b"ping")
        backend = await backends.accept()
        await backend.hear(b"ping")
        sent = bytes(range(256)) * 4_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, sent)
            nursery.start_soon(backend.say, sent)
            await backend.hear(sent)
            await client.hear(sent)
        client.stream.socket.shutdown(trio.socket.SHUT_WR)
        await backend.ended()
        await backend.say(b"still here")
        await client.hear(b"still here")
        backend.stream.socket.close()
        await client.ended()


async def test_connections_opened_in_plain_text_are_not_used_by_tls(tmp_path, site):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok(b"plain"))
        await client.message()
        await rig.settled(clients=1, idle_upstreams=1, descriptors=2)
        path = tmp_path / "rig.toml"
        path.write_text(path.read_text().replace("[pool.app]", f"[pool.app]\n{pool(site)}"))
        backends = Farm(rig, backend_context(site.files))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backends.run)
            await rig.plane.apply(load(path))
            await backend.ended()
            await exchange(rig, backends)
            nursery.cancel_scope.cancel()
