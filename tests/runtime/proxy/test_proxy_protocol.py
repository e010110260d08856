"""The PROXY protocol at both sides of the data plane: who is believed, and who is announced."""

import ssl

import pytest
import trio

from meshlb.core.proxy_protocol import Ends, ProxyVersion, read_header, write_header
from meshlb.model import Address, BackendState
from tests.runtime.proxy.messages import get, head, ok, post
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.test_upgrade import ACCEPTING, OPENING
from tests.runtime.proxy.tls import NAME, Site, TlsEnd
from tests.runtime.proxy.wire import Wire

EXPECTED = "proxy_protocol = true"
V1, V2 = ProxyVersion
ENDS = Ends(Address("192.0.2.7", 4711), Address("198.51.100.1", 443))
ENDS_V6 = Ends(Address("2001:db8::7", 4711), Address("2001:db8::1", 443))
BY_ADDRESS = '[[pool.app.sticky]]\nby = "source-ip"'
SHORT_HEAD = EXPECTED + '\ntimeouts = { head = "150ms", idle = "30s" }'


async def announced(rig: Rig, name: str = "s1") -> tuple[Wire, Ends]:
    """The next connection to a backend that is for a client, and the ends it begins with."""
    while True:
        backend = await rig.accept(name)
        begun = b""
        while (header := read_header(begun)) is None:
            begun += await backend.exactly(1)
        if header.ends is not None:  # A probe's has none.
            return backend, header.ends


async def served(client: Wire, backend: Wire) -> None:
    await backend.message()
    await backend.say(ok())
    assert (await client.message()).status == 200


# In


@pytest.mark.parametrize("ends", [ENDS, ENDS_V6])
@pytest.mark.parametrize("version", ProxyVersion)
async def test_the_announced_address_is_the_clients(tmp_path, version, ends):
    async with scripted(tmp_path, listener=EXPECTED) as rig:
        client = await rig.exchange(write_header(version, ends) + get())
        backend = await rig.accept()
        request = await backend.message()
        assert request["x-forwarded-for"] == ends.source.host.encode()
        await backend.say(ok(b"first"))
        assert (await client.message()).body == b"first"
        await client.say(get(b"/again"))
        assert (await backend.message())["x-forwarded-for"] == ends.source.host.encode()
        await backend.say(ok(b"second"))
        assert (await client.message()).body == b"second"


@pytest.mark.parametrize("version", ProxyVersion)
async def test_a_header_may_come_byte_by_byte(tmp_path, version):
    async with scripted(tmp_path, listener=EXPECTED) as rig:
        client = await rig.client()
        await client.dribble(write_header(version, ENDS) + post(b"body"))
        backend = await rig.accept()
        request = await backend.message()
        assert (request["x-forwarded-for"], request.body) == (b"192.0.2.7", b"body")
        await backend.say(ok())
        await client.message()


async def test_the_announced_address_is_the_session_key(tmp_path):
    async with scripted(tmp_path, "s1", "s2", listener=EXPECTED, sticky=BY_ADDRESS) as rig:
        for client_number in (1, 2):
            ends = Ends(Address(f"192.0.2.{client_number}", 1), ENDS.destination)
            for _ in range(2):
                client = await rig.exchange(
                    write_header(V1, ends) + get(b"/", b"Connection: close")
                )
                backend = await rig.accept(f"s{client_number}")
                await backend.message()
                await backend.say(ok(b"", b"Connection: close"))
                assert (await client.message()).status == 200
        assert len(rig.table.claims) == 2


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", write_header(V2, ENDS)[:12] + b"\x20\0\0\0"]
)
async def test_a_header_that_names_nobody_leaves_the_connections_own_address(tmp_path, header):
    async with scripted(tmp_path, listener=EXPECTED) as rig:
        client = await rig.exchange(header + get())
        backend = await rig.accept()
        assert (await backend.message())["x-forwarded-for"] == b"127.0.0.1"
        await backend.say(ok())
        await client.message()


@pytest.mark.parametrize(
    "begun",
    [
        get(),
        b"\x16\x03\x01\x02\x00",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n" + get(),
        b"\r\n" + get(),
    ],
)
async def test_a_connection_without_a_valid_header_is_closed_and_counted(tmp_path, begun):
    async with scripted(tmp_path, listener=EXPECTED) as rig:
        client = await rig.exchange(begun)
        assert await client.remains() == b""
        assert rig.tally.proxy_headers_refused == 1
        assert not rig.origins["s1"].wires
        await rig.settled()


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 ", write_header(V2, ENDS)[:-1]])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(tmp_path, begun):
    async with scripted(tmp_path, listener=SHORT_HEAD) as rig:
        client = await rig.exchange(begun)
        assert await client.remains() == b""
        assert rig.tally.proxy_headers_refused == 1
        await rig.settled()


async def test_who_only_looks_whether_the_port_is_open_is_not_counted(tmp_path):
    async with scripted(tmp_path, listener=EXPECTED) as rig:
        for how in ("closes", "cuts its header", "resets"):
            client = await rig.exchange(b"PROXY" if how == "cuts its header" else b"")
            client.reset() if how == "resets" else await client.close()
            await rig.settled()
        assert rig.tally.proxy_headers_refused == 1
        assert rig.tally.accepted == 3


async def test_a_tcp_listener_passes_on_what_follows_the_header(tmp_path):
    async with scripted(tmp_path, listener=EXPECTED, protocol="tcp") as rig:
        client = await rig.exchange(write_header(V2, ENDS) + b"\x00first")
        backend = await rig.accept()
        await backend.hear(b"\x00first")
        await backend.say(b"second")
        await client.hear(b"second")
        await rig.settled(tunnels=1, exchanges=1, descriptors=2)


async def test_a_node_that_leaves_serves_whoever_has_come_and_drops_the_nameless(tmp_path):
    async with scripted(tmp_path, listener=EXPECTED) as rig:
        silent = await rig.client()
        await eventually(lambda: rig.tally.connections == 1)
        client = rig.connect_now()
        client.say_now(write_header(V1, ENDS) + get())
        rig.plane._frontends[0].drain()
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok())
        assert (await client.message())["connection"] == b"close"
        assert await silent.remains() == b""


# Out


@pytest.mark.parametrize("version", ProxyVersion)
async def test_a_backend_hears_first_who_the_client_is(tmp_path, version):
    async with scripted(tmp_path, pool=f'proxy_protocol = "{version}"') as rig:
        client = await rig.exchange(post(b"body"))
        backend, ends = await announced(rig)
        own = client.stream.socket
        assert ends == Ends(Address(*own.getsockname()), Address(*own.getpeername()))
        assert (await backend.message()).body == b"body"
        await backend.say(ok())
        await client.message()


async def test_what_one_proxy_said_is_passed_on_to_the_backend(tmp_path):
    async with scripted(tmp_path, listener=EXPECTED, pool='proxy_protocol = "v2"') as rig:
        client = await rig.exchange(write_header(V1, ENDS_V6) + get())
        backend, ends = await announced(rig)
        assert ends == ENDS_V6
        await served(client, backend)


async def test_an_announced_connection_serves_its_client_again_and_nobody_else(tmp_path):
    async with scripted(tmp_path, pool='proxy_protocol = "v1"') as rig:
        first = await rig.exchange(get())
        backend, ends = await announced(rig)
        await served(first, backend)
        for request in (get(b"/again"), post(b"body")):
            await first.say(request)
            await served(first, backend)

        second = await rig.exchange(get())
        other_backend, other_ends = await announced(rig)
        assert other_ends != ends
        await served(second, other_backend)

        await rig.settled(clients=2, descriptors=4)
        await first.close()
        await backend.ended()
        await rig.settled(clients=1, descriptors=2)


async def test_an_announced_connection_that_its_backend_closed_is_replaced_by_another(tmp_path):
    async with scripted(tmp_path, pool='proxy_protocol = "v1"') as rig:
        client = await rig.exchange(get())
        backend, ends = await announced(rig)
        await served(client, backend)
        await backend.close()
        await rig.settled(clients=1, descriptors=1)
        await client.say(post(b"body"))
        again, same_ends = await announced(rig)
        assert same_ends == ends
        await served(client, again)


async def test_a_client_whose_session_moves_gives_up_its_announced_connection(tmp_path):
    async with scripted(
        tmp_path, "s1", "s2", pool='proxy_protocol = "v2"', sticky=BY_ADDRESS
    ) as rig:
        client = await rig.exchange(get())
        old, _ = await announced(rig, "s1")
        await served(client, old)
        rig.backend("s1").order(BackendState.MAINTENANCE)
        await client.say(get())
        new, _ = await announced(rig, "s2")
        await served(client, new)
        await old.gone()
        await rig.settled(clients=1, descriptors=2)


async def test_a_tunnel_begins_with_the_header(tmp_path):
    async with scripted(tmp_path, pool='proxy_protocol = "v2"') as rig:
        client = await rig.exchange(OPENING)
        backend, _ = await announced(rig)
        await backend.head()
        await backend.say(ACCEPTING)
        assert (await client.head()).status == 101
        await client.say(b"up")
        await backend.hear(b"up")


async def test_a_tcp_connection_begins_with_the_header(tmp_path):
    async with scripted(tmp_path, protocol="tcp", pool='proxy_protocol = "v1"') as rig:
        client = await rig.exchange(b"up")
        backend, ends = await announced(rig)
        assert ends.source.host == "127.0.0.1"
        await backend.hear(b"up")
        await backend.close()
        await client.ended()


@pytest.mark.parametrize("health", ['interval = "10m"', 'interval = "10m"\npath = "/healthz"'])
async def test_a_probe_names_nobody(tmp_path, health):
    async with trio.open_nursery() as nursery:
        heard: list[bytes] = []

        async def play(rig: Rig) -> None:
            backend = await rig.accept()
            heard.append(await backend.exactly(len(b"PROXY UNKNOWN\r\n")))
            if "path" in health:
                assert (await backend.head()).line == b"GET /healthz HTTP/1.1"
                await backend.say(ok())
            await backend.gone()
            await backend.close()

        async with scripted(
            tmp_path, pool='proxy_protocol = "v1"', health=health, may_listen=False
        ) as rig:
            await play(rig)
            rig.may_listen.set()
            await rig.plane.accepting.wait()
        assert heard == [b"PROXY UNKNOWN\r\n"]
        nursery.cancel_scope.cancel()


async def test_a_request_is_answered_with_502_where_the_backend_refuses_the_header(tmp_path):
    async with scripted(tmp_path, pool='proxy_protocol = "v2"') as rig:
        client = await rig.exchange(get())
        backend, _ = await announced(rig)
        backend.reset()
        answer = await client.message()
        assert answer.status == 502
        assert answer.raw.startswith(head(b"HTTP/1.1 502 Bad Gateway")[:12])


# With TLS


async def test_the_header_comes_before_the_handshake_of_a_client(tmp_path):
    site = Site(tmp_path)
    async with scripted(tmp_path, listener=f"{EXPECTED}\n{site.listener}") as rig:
        raw = await rig.client()
        await raw.dribble(write_header(V2, ENDS))
        tls = trio.SSLStream(raw.stream, site.trust(), server_hostname=NAME)
        await tls.do_handshake()
        client = Wire(TlsEnd(tls))
        await client.say(get())
        backend = await rig.accept()
        request = await backend.message()
        assert request["x-forwarded-for"] == b"192.0.2.7"
        assert request["x-forwarded-proto"] == b"https"
        await backend.say(ok(b"secret"))
        assert (await client.message()).body == b"secret"


async def test_a_client_that_shakes_hands_without_a_header_is_closed(tmp_path):
    site = Site(tmp_path)
    async with scripted(tmp_path, listener=f"{EXPECTED}\n{site.listener}") as rig:
        raw = await rig.client()
        tls = trio.SSLStream(raw.stream, site.trust(), server_hostname=NAME)
        with pytest.raises(trio.BrokenResourceError):
            await tls.do_handshake()
        assert rig.tally.proxy_headers_refused == 1


async def test_the_header_goes_before_the_handshake_with_a_backend(tmp_path):
    site = Site(tmp_path)
    tls = f'tls = {{ ca = "{site.authority.ca}", server_name = "{NAME}" }}'
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(site.files.cert, site.files.key)
    told: list[Ends | None] = []
    async with scripted(tmp_path, pool=f'proxy_protocol = "v1"\n{tls}', may_listen=False) as rig:
        for whose in ("of a probe", "of a client"):
            raw = await rig.accept()
            begun = b""
            while (header := read_header(begun)) is None:
                begun += await raw.exactly(1)
            told.append(header.ends)
            # What the wire has read ahead belongs to the handshake.
            stream = trio.SSLStream(Ahead(raw), context, server_side=True)
            await stream.do_handshake()
            if whose == "of a probe":
                rig.may_listen.set()
                await rig.plane.accepting.wait()
                client = await rig.exchange(get())
                continue
            await stream.receive_some()
            await stream.send_all(ok(b"secret"))
            assert (await client.message()).body == b"secret"
        assert told[0] is None
        assert told[1] is not None


class Ahead(trio.abc.Stream):
    """A wire as a stream."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._wire.some(max_bytes or 65_536)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._wire.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._wire.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._wire.close()
