"""Listeners that end TLS: real handshakes with Python's own client, friendly and hostile."""

import contextlib
import ssl
from pathlib import Path

import pytest
import structlog
import trio

from meshlb.net.reactor import RATION_EVENTS_MAX
from meshlb.proxy import greeting
from tests.native import of_the_source
from tests.runtime.proxy.messages import get, head, ok, post
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.tls import NAME, Site, exchange, pair
from tests.runtime.proxy.wire import RESET_ON_CLOSE, Wire

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
HELLO_HEADER = b"\x16\x03\x01\x02\x00"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def failures(rig: Rig) -> dict[str, int]:
    return dict(rig.tally.handshakes_failed)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_request_by_tls_says_so_to_the_backend_and_gets_a_secure_cookie(
    tmp_path, site, version
):
    sticky = '[[pool.app.sticky]]\nby = "cookie"'
    async with scripted(tmp_path, listener=site.listener, sticky=sticky) as rig:
        client = await site.client(rig, context=site.trust(version=version))
        await client.say(get())
        backend = await rig.accept()
        assert (await backend.message())["x-forwarded-proto"] == b"https"
        await backend.say(ok(b"hello"))
        response = await client.message()
        assert response.body == b"hello"
        assert b"Secure" in response["set-cookie"].split(b"; ")
        assert rig.tally.handshakes == 1
        await client.stream.aclose()
        await rig.settled(idle_upstreams=1, descriptors=1)


async def test_only_http_1_1_is_agreed_on(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
            context = site.trust()
            context.set_alpn_protocols(offered)
            client = await site.client(rig, context=context)
            assert client.stream.tls.selected_alpn_protocol() == chosen


async def test_versions_below_1_2_and_ciphers_without_forward_secrecy_are_refused(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        old = site.trust(version=ssl.TLSVersion.TLSv1_2)
        old.set_ciphers("AES256-GCM-SHA384:AES128-SHA")
        with pytest.raises(trio.BrokenResourceError):
            await site.client(rig, context=old)
        await eventually(lambda: failures(rig) == {greeting.REFUSED: 1})
        assert rig.tally.handshakes == 0


async def test_a_listener_may_insist_on_1_3(tmp_path, site):
    listener = f'tls = {{ {pair(site.files)}, min_version = "1.3" }}'
    async with scripted(tmp_path, listener=listener) as rig:
        with pytest.raises(trio.BrokenResourceError):
            await site.client(rig, context=site.trust(version=VERSIONS[0]))
        await site.client(rig, context=site.trust(version=VERSIONS[1]))


async def test_certificates_are_chosen_by_name_and_the_first_one_is_the_default(tmp_path, site):
    other = site.authority.sign("other", names=("b.example", "*.c.example"))
    listener = f"tls = {{ {pair(site.files)}, certificates = [{{ {pair(other)} }}] }}"
    async with scripted(tmp_path, listener=listener) as rig:
        for name, shown in (
            (NAME, NAME),
            ("b.example", "b.example"),
            ("x.c.example", "b.example"),
            ("x.y.c.example", NAME),
            ("unknown.example", NAME),
        ):
            context = site.trust()
            context.check_hostname = False
            client = await site.client(rig, context=context, name=name)
            names = client.stream.tls.getpeercert()["subjectAltName"]
            assert names[0] == ("DNS", shown)


async def test_clients_must_show_a_certificate_where_the_listener_asks_for_one(tmp_path, site):
    listener = f'tls = {{ {pair(site.files)}, client_ca = "{site.authority.ca}" }}'
    async with scripted(tmp_path, listener=listener) as rig:
        nobody = await site.client(rig, context=site.trust(version=VERSIONS[1]))
        await nobody.say_in_vain(get())
        await nobody.broken()
        await eventually(lambda: failures(rig) == {greeting.REFUSED: 1})
        context = site.trust()
        known = site.authority.sign("client")
        context.load_cert_chain(known.cert, known.key)
        await exchange(rig, await site.client(rig, context=context))


async def test_large_bodies_pass_both_ways_whatever_the_sizes(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        up, down = bytes(range(256)) * 4_000, bytes(reversed(range(256))) * 8_001
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, post(up))
            backend = await rig.accept()
            assert (await backend.message()).body == up
            nursery.start_soon(backend.say, ok(down))
            assert (await client.message()).body == down


async def test_a_client_that_reads_slowly_gets_it_all(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig, receive_bytes=65_536)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        body = bytes(range(256)) * 32_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.say, ok(body))
            with trio.move_on_after(0.05):
                await trio.sleep_forever()
            assert (await client.message()).body == body


async def test_a_head_in_single_bytes_is_read(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        await client.dribble(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok(b"x"))
        assert (await client.message()).body == b"x"


async def test_a_response_up_to_the_end_ends_with_a_goodbye(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK"), b"all of it")
        backend.stream.socket.close()
        # The client's side raises if the end was not stated.
        assert (await client.message()).body == b"all of it"


async def test_a_response_that_is_cut_off_ends_without_a_goodbye(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK"), b"a part")
        await client.until(b"a part")
        backend.stream.socket.setsockopt(
            trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET_ON_CLOSE
        )
        backend.stream.socket.close()
        await client.broken()


async def test_an_idle_client_is_told_goodbye(tmp_path, site):
    async with scripted(
        tmp_path, listener=site.listener + '\ntimeouts = { idle = "100ms" }'
    ) as rig:
        client = await site.client(rig)
        await client.ended()


async def test_a_client_that_goes_without_a_goodbye_is_let_go(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        await exchange(rig, client)
        client.stream.socket.close()
        await rig.settled()


async def test_plain_http_gets_a_plain_answer_and_is_counted(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await rig.exchange(get())
        response = await client.message()
        assert response.status == 400
        await client.ended()
        assert failures(rig) == {greeting.PLAIN: 1}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\x00\x01\x02", greeting.PLAIN),
        (HELLO_HEADER + bytes(512), greeting.REFUSED),
        (b"\x16\x03\x01\x00\x05hello", greeting.REFUSED),
    ],
)
async def test_garbage_ends_the_connection_and_is_counted(tmp_path, site, said, reason):
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await rig.exchange(said)
        await client.gone()
        await eventually(lambda: failures(rig) == {reason: 1})
        await rig.settled()


async def test_a_flood_of_failures_is_counted_and_logged_once(tmp_path, site, monkeypatch):
    monkeypatch.setattr(greeting, "TELL_EVERY_S", 60.0)
    async with scripted(tmp_path, listener=site.listener) as rig:
        with structlog.testing.capture_logs() as lines:
            for _ in range(5):
                await (await rig.exchange(HELLO_HEADER + bytes(512))).gone()
            await eventually(lambda: failures(rig) == {greeting.REFUSED: 5})
        assert [line["event"] for line in lines] == ["no TLS handshake"]
        assert failures(rig) == {greeting.REFUSED: 5}


@pytest.mark.parametrize("said", [b"\x16", HELLO_HEADER, HELLO_HEADER + bytes(100)])
async def test_a_stalled_handshake_is_cut_off(tmp_path, site, said):
    listener = site.listener + '\ntimeouts = { head = "100ms" }'
    async with scripted(tmp_path, listener=listener) as rig:
        client = await rig.exchange(said)
        await client.gone()
        assert failures(rig) == {greeting.TIMED_OUT: 1}
        await rig.settled()


@pytest.mark.parametrize("resets", [True, False])
async def test_a_client_may_go_at_any_point_of_the_handshake(tmp_path, site, resets):
    """Cut after each of its flights, and in the midst of them."""
    async with scripted(tmp_path, listener=site.listener) as rig:
        flights = await client_flights(rig, site)
        cuts = [1, 5, 100, len(flights) - 40, len(flights) - 1]
        for cut in cuts:
            client = await rig.exchange(flights[:cut])
            if resets:
                client.stream.socket.setsockopt(
                    trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET_ON_CLOSE
                )
            client.stream.socket.close()
        await rig.settled()
        await eventually(lambda: sum(failures(rig).values()) == len(cuts))
        await site.client(rig)


async def client_flights(rig: Rig, site: Site) -> bytes:
    """The first flight of an honest client."""
    outgoing = ssl.MemoryBIO()
    tls = site.trust().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def test_a_handshake_in_single_bytes_succeeds(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        raw = await rig.client()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = site.trust().wrap_bio(incoming, outgoing, server_hostname=NAME)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await raw.dribble(outgoing.read())
                incoming.write(await raw.some(65_536))
            else:
                break
        await raw.dribble(outgoing.read())
        await eventually(lambda: rig.tally.handshakes == 1)
        assert rig.tally.handshakes == 1


@of_the_source
async def test_the_oldest_handshake_makes_room(tmp_path, site, monkeypatch):
    monkeypatch.setattr(greeting, "HANDSHAKES_MAX", 3)
    async with scripted(tmp_path, listener=site.listener) as rig:
        stalled = [await rig.exchange(b"\x16") for _ in range(3)]
        await eventually(lambda: rig.tally.connections == 3)
        await exchange(rig, await site.client(rig))
        await stalled[0].gone()
        assert failures(rig) == {greeting.CROWDED_OUT: 1}
        assert rig.tally.connections == 3


async def test_many_handshakes_at_once_take_several_turns_and_all_succeed(tmp_path, site):
    patient = site.listener + '\ntimeouts = { head = "5m" }'
    async with scripted(tmp_path, listener=patient) as rig:
        count = 3 * RATION_EVENTS_MAX
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(site.client, rig)
        await eventually(lambda: rig.tally.handshakes == count)
        assert rig.tally.handshakes == count


async def test_a_websocket_by_tls_passes_both_ways_and_half_closes(tmp_path, site):
    upgrade = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13")
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        await client.say(get(b"/", *upgrade, key))
        backend = await rig.accept()
        await backend.head()
        accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        await backend.say(head(b"HTTP/1.1 101 Switching Protocols", *upgrade[:2], accept))
        await client.head()
        async with trio.open_nursery() as nursery:
            sent = bytes(range(256)) * 4_000
            nursery.start_soon(client.say, sent)
            nursery.start_soon(backend.say, sent)
            await backend.hear(sent)
            await client.hear(sent)
        await backend.stream.send_eof()
        await client.ended()
        await rig.settled(tunnels=1, exchanges=1, descriptors=2)
        client.stream.socket.close()
        await backend.gone()


async def test_tcp_listeners_end_tls_as_well(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener, protocol="tcp") as rig:
        client = await site.client(rig)
        await client.say(b"ping")
        backend = await rig.accept()
        await backend.hear(b"ping")
        await backend.say(b"pong")
        await client.hear(b"pong")
        assert client.stream.tls.selected_alpn_protocol() is None


async def test_a_backend_that_says_goodbye_first_still_gets_what_the_client_sends(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener, protocol="tcp") as rig:
        client = await site.client(rig)
        await client.say(b"ping")
        backend = await rig.accept()
        await backend.hear(b"ping")
        await backend.say(b"over")
        await backend.stream.send_eof()
        await client.hear(b"over")
        await client.ended()
        await send_after_the_end(client, b"and yet")
        await backend.hear(b"and yet")


async def send_after_the_end(client: Wire, said: bytes) -> None:
    """Python's own `SSLSocket` would do; trio's stream sends nothing after an end."""
    tls = client.stream.tls
    tls._ssl_object.write(said)
    await tls.transport_stream.send_all(tls._outgoing.read())
