"""WebSocket upgrades and the tunnels behind them; plain TCP listeners."""

import socket

import pytest
import trio

from meshlb.model import BackendState
from tests.fakes.privileges import need_kernel_relay
from tests.runtime.proxy.messages import get, head, ok
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.wire import Wire

OPENING = get(
    b"/chat",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
ACCEPTING = head(
    b"HTTP/1.1 101 Switching Protocols",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
)
BY_COOKIE = '[[pool.app.sticky]]\nby = "cookie"\nttl = "4s"'
BY_ADDRESS = '[[pool.app.sticky]]\nby = "source-ip"'


@pytest.fixture(params=["off", "required"])
def relay(request: pytest.FixtureRequest) -> str:
    """Tunnels in user space, and in the kernel where that is possible."""
    if request.param == "required":
        need_kernel_relay()
    return str(request.param)


async def tunnel(rig: Rig) -> tuple[Wire, Wire]:
    client = await rig.exchange(OPENING)
    backend = await rig.accept()
    await backend.head()
    await backend.say(ACCEPTING)
    await client.head()
    return client, backend


async def test_an_accepted_upgrade_becomes_a_tunnel_both_ways(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client = await rig.exchange(OPENING)
        backend = await rig.accept()
        request = await backend.head()
        assert request.line == b"GET /chat HTTP/1.1"
        assert (request["upgrade"], request["connection"]) == (b"websocket", b"Upgrade")
        assert request["sec-websocket-key"] == b"dGhlIHNhbXBsZSBub25jZQ=="
        await backend.say(ACCEPTING)
        response = await client.head()
        assert response.status == 101
        assert (response["upgrade"], response["connection"]) == (b"websocket", b"Upgrade")
        assert response["sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        for word in (b"\x81\x05hello", b"GET /not-a-request HTTP/1.1\r\n\r\n", bytes(range(256))):
            await client.say(word)
            await backend.hear(word)
            await backend.say(word)
            await client.hear(word)
        await rig.settled(tunnels=1, exchanges=1, descriptors=2)


async def test_frames_that_come_with_the_handshake_reach_the_other_end_in_order(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client = await rig.exchange(OPENING + b"early ")
        backend = await rig.accept()
        await backend.head()
        await client.say(b"bird")
        await backend.silent(0.02)
        await backend.say(ACCEPTING + b"worm")
        assert (await client.head()).status == 101
        await client.hear(b"worm")
        await backend.hear(b"early bird")
        await client.say(b"!")
        await backend.hear(b"!")


async def test_a_large_early_frame_goes_through_a_slow_client(tmp_path, relay):
    frame = bytes(range(256)) * 12_000
    async with scripted(tmp_path, relay=relay) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(OPENING)
        backend = await rig.accept()
        await backend.head()
        rig.nursery.start_soon(backend.say, ACCEPTING + frame)
        assert (await client.head()).status == 101
        assert await client.exactly(len(frame)) == frame


@pytest.mark.parametrize("early", [b"", get(b"/evil")])
async def test_a_refused_upgrade_is_passed_on_and_nothing_behind_it_is_a_request(tmp_path, early):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(OPENING + early)
        backend = await rig.accept()
        await backend.head()
        await backend.say(head(b"HTTP/1.1 403 Forbidden", b"Content-Length: 3") + b"no!")
        response = await client.message()
        assert (response.status, response.body) == (403, b"no!")
        assert response["connection"] == b"close"
        await client.ended()
        await backend.silent()
        await client.close()
        await rig.settled(idle_upstreams=1, descriptors=1)


@pytest.mark.parametrize(
    "answer",
    [
        ACCEPTING,
        head(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: h2c", b"Connection: Upgrade"),
        head(b"HTTP/1.1 101 Switching Protocols"),
    ],
)
async def test_a_switch_that_nobody_asked_for_becomes_502(tmp_path, answer):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(answer + b"evil")
        response = await client.message()
        assert (response.status, response["server"]) == (502, b"meshlb")
        await client.ended()
        await backend.gone()


async def test_a_switch_to_another_protocol_than_asked_for_becomes_502(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client = await rig.exchange(OPENING)
        backend = await rig.accept()
        await backend.head()
        await backend.say(ACCEPTING.replace(b"websocket", b"chat"))
        assert (await client.message()).status == 502
        await backend.gone()


@pytest.mark.parametrize(
    "request_",
    [
        get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAM"),
        OPENING.replace(b"websocket", b"h2c"),
        OPENING.replace(b"websocket", b"websocket, h2c"),
        OPENING.replace(b": 13", b": 8"),
        OPENING.replace(b"GET", b"PUT"),
        OPENING.replace(b"HTTP/1.1", b"HTTP/1.0"),
        OPENING.replace(b"Connection: Upgrade\r\n", b""),
        OPENING.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
    ],
)
async def test_no_other_upgrade_is_forwarded(tmp_path, request_):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(request_)
        backend = await rig.accept()
        request = await backend.message()
        assert not {"upgrade", "http2-settings", "connection"} & {
            name.decode() for name, _ in request.fields
        }
        await backend.say(ok())
        assert (await client.message()).status == 200


async def test_the_switch_carries_the_cookie(tmp_path, relay):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE, relay=relay) as rig:
        client = await rig.exchange(OPENING)
        backend = await rig.accept("s1")
        await backend.head()
        await backend.say(ACCEPTING)
        cookie = (await client.head()).cookie
        again = await rig.exchange(OPENING[:-2] + b"Cookie: " + cookie + b"\r\n\r\n")
        backend = await rig.accept("s1")
        assert "cookie" not in await backend.head()
        await backend.say(ACCEPTING)
        assert "set-cookie" not in await again.head()
        await rig.settled(tunnels=2, exchanges=2, descriptors=4)


async def test_a_living_tunnel_keeps_its_pin_alive(tmp_path, relay, unhurried):
    async with scripted(
        tmp_path, sticky='[[pool.app.sticky]]\nby = "cookie"\nttl = "1s"', relay=relay
    ) as rig:
        client, backend = await tunnel(rig)
        rig.table.touched.clear()
        (key,) = rig.table.pins
        for _ in range(5):
            await trio.sleep(0.3)
            await client.say(b"ping")
            await backend.hear(b"ping")
        assert rig.table.pins[key].is_live(rig.table.now())
        assert rig.table.touched


async def test_either_end_may_close_a_tunnel(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)
        await client.say(b"bye")
        await client.close()
        assert await backend.rest() == b"bye"
        await backend.close()
        await rig.settled()
        client, backend = await tunnel(rig)
        await backend.say(b"bye")
        await backend.close()
        assert await client.rest() == b"bye"
        await client.close()
        await rig.settled()


async def test_a_reset_goes_through_a_tunnel_in_either_direction(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)
        client.reset()
        assert await backend.broken() == b""
        client, backend = await tunnel(rig)
        backend.reset()
        assert await client.broken() == b""


async def test_a_client_that_leaves_before_the_switch_leaves_nothing_behind(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client = await rig.exchange(OPENING)
        backend = await rig.accept()
        await backend.head()
        backend.say_now(ACCEPTING)
        client.reset()
        await backend.gone()
        await rig.settled()


async def test_a_half_closed_client_of_a_tunnel_still_hears_the_backend(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client = await rig.exchange(OPENING + b"all I say")
        await client.fin()
        backend = await rig.accept()
        await backend.head()
        await backend.say(ACCEPTING)
        assert await backend.rest() == b"all I say"
        await client.head()
        await backend.say(b"the rest")
        await backend.close()
        assert await client.rest() == b"the rest"


async def test_a_tcp_listener_passes_bytes_of_any_kind(tmp_path, relay):
    async with scripted(tmp_path, protocol="tcp", relay=relay) as rig:
        client = await rig.exchange(b"\x00\xffnot HTTP\n")
        backend = await rig.accept()
        await backend.hear(b"\x00\xffnot HTTP\n")
        await backend.say(b"220 ready\r\n")
        await client.hear(b"220 ready\r\n")
        await client.fin()
        await backend.ended()
        await backend.say(b"bye")
        await backend.close()
        assert await client.rest() == b"bye"


async def test_a_backend_may_speak_first_on_a_tcp_listener(tmp_path, relay):
    async with scripted(tmp_path, protocol="tcp", relay=relay) as rig:
        await rig.origins["s1"].skip_probes()
        client = await rig.client()
        backend = await rig.accept(talks=False)
        await backend.say(b"220 welcome\r\n")
        await client.hear(b"220 welcome\r\n")


async def test_a_tcp_client_is_pinned_by_its_address(tmp_path, relay):
    async with scripted(
        tmp_path, "s1", "s2", protocol="tcp", sticky=BY_ADDRESS, relay=relay
    ) as rig:
        for _ in range(4):
            client = await rig.exchange(b"hello")
            await (await rig.accept("s1")).hear(b"hello")
            await client.close()
        assert [claim.backend for claim in rig.table.claims] == ["s1"]
        rig.backend("s1").order(BackendState.MAINTENANCE)
        client = await rig.exchange(b"hello")
        await (await rig.accept("s2")).hear(b"hello")
        assert [claim.moved_from for claim in rig.table.claims] == ["", "s1"]


async def test_a_tcp_client_without_a_backend_is_reset(tmp_path, relay):
    async with scripted(tmp_path, protocol="tcp", relay=relay) as rig:
        rig.origins["s1"].close()
        client = await rig.client()
        assert await client.broken() == b""
        await rig.settled()


async def test_a_tcp_client_that_leaves_while_it_is_decided_leaves_nothing_behind(tmp_path, relay):
    async with scripted(tmp_path, protocol="tcp", sticky=BY_ADDRESS, relay=relay) as rig:
        rig.table.answers = trio.Event()
        client = await rig.client()
        await eventually(lambda: bool(rig.table.claims))
        client.reset()
        await rig.settled()


async def test_a_tcp_client_that_half_closes_while_it_is_decided_is_served(tmp_path, relay):
    async with scripted(tmp_path, protocol="tcp", sticky=BY_ADDRESS, relay=relay) as rig:
        rig.table.answers = trio.Event()
        client = await rig.exchange(b"all I say")
        client.stream.socket.shutdown(socket.SHUT_WR)
        await eventually(lambda: bool(rig.table.claims))
        rig.table.answers.set()
        backend = await rig.accept()
        assert await backend.rest() == b"all I say"
        await backend.say(b"answer")
        await backend.close()
        assert await client.rest() == b"answer"
