"""The limit of connections, the end of descriptors, and drain."""

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from meshlb.proxy.prober import probe
from tests.descriptors import descriptors_left
from tests.runtime.proxy.messages import get, head, ok
from tests.runtime.proxy.rig import PATIENCE_S, Rig, eventually, running, scripted
from tests.runtime.proxy.test_upgrade import ACCEPTING, OPENING, tunnel
from tests.runtime.proxy.wire import Origin, Wire

BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'


async def exchanged(client: Wire, backend: Wire, *fields: bytes) -> None:
    await client.say(get(b"/", *fields))
    await backend.message()
    await backend.say(ok(b"fine"))
    assert (await client.message()).body == b"fine"


async def test_clients_beyond_the_limit_wait_and_are_served_later(tmp_path):
    async with scripted(tmp_path, listener="max_connections = 2") as rig:
        rig.record()
        first, second = await rig.exchange(get()), await rig.exchange(get())
        for client in (first, second):
            assert (await client.message()).status == 200
        third, fourth = await rig.exchange(get()), await rig.exchange(get())
        await third.silent()
        assert rig.tally.connections == 2
        assert rig.tally.pauses == 1
        await first.close()
        await second.close()
        for client in (third, fourth):
            assert (await client.message()).status == 200
        assert rig.tally.accepted == 4


async def test_tunnels_count_for_the_limit_of_connections(tmp_path):
    async with scripted(tmp_path, listener="max_connections = 1") as rig:
        client, backend = await tunnel(rig)
        waiting = await rig.exchange(get())
        await waiting.silent(0.2)
        assert rig.tally.accepted == 1
        await client.close()
        await backend.close()
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok(b"at last"))
        assert (await waiting.message()).body == b"at last"


async def test_out_of_descriptors_newcomers_wait_and_those_connected_are_served(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok())
        await client.message()
        sock = trio.socket.socket()
        with descriptors_left(0):
            await sock.connect((rig.address.host, rig.address.port))
            newcomer = Wire(trio.SocketStream(sock))
            rig.clients.append(newcomer)
            await newcomer.say(get())
            await newcomer.silent(0.2)
            await exchanged(client, backend)
        assert rig.tally.pauses >= 1
        await backend.message()
        await backend.say(ok(b"at last"))
        assert (await newcomer.message()).body == b"at last"


async def test_out_of_descriptors_no_backend_is_blamed_and_no_session_moves(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        client = await rig.client()
        await rig.settled(clients=1, descriptors=1)
        with descriptors_left(0):
            await client.say(get(b"/", b"X-Key: k"))
            answer = await client.message()
        assert answer.status == 503
        assert "retry-after" in answer
        assert not any(claim.moved_from for claim in rig.table.claims)
        assert rig.plane.counters.connect_failures == 0
        again = await rig.exchange(get(b"/", b"X-Key: k"))
        backend = await rig.accept("s1")
        await backend.message()
        await backend.say(ok())
        assert (await again.message()).status == 200


@pytest.mark.parametrize(
    "health", ['interval = "10m"', 'path = "/healthz"\ninterval = "10m"\ntimeout = "50ms"']
)
async def test_out_of_descriptors_a_probe_says_nothing_of_the_backend(tmp_path, health):
    async with scripted(tmp_path, health=health) as rig:
        settings = rig.plane.pools["app"].settings.health
        async with httpx.AsyncHTTPTransport(verify=False) as transport:
            with descriptors_left(0):
                assert await probe(rig.backend(), settings, transport) is None
            rig.origins["s1"].close()
            assert await probe(rig.backend(), settings, transport)


async def drained(rig: Rig, timeout_s: float = 2 * PATIENCE_S) -> None:
    with trio.fail_after(PATIENCE_S):
        await rig.plane.drain(timeout_s=timeout_s)


async def test_drain_sends_idle_clients_away_at_once(tmp_path):
    async with scripted(tmp_path) as rig:
        fresh = await rig.client()
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok())
        await client.message()
        await eventually(lambda: rig.tally.connections == 2)
        await drained(rig)
        await client.ended()
        await fresh.ended()


async def test_drain_refuses_newcomers(tmp_path):
    async with scripted(tmp_path) as rig:
        await drained(rig)
        with pytest.raises(OSError, match="refused"):
            await rig.client()


async def test_drain_lets_a_request_end_and_says_that_it_was_the_last(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1") + get(b"/2"))
        backend = await rig.accept()
        await backend.message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drained, rig)
            await client.silent()
            await backend.say(ok(b"one"))
            response = await client.message()
            assert (response.body, response["connection"]) == (b"one", b"close")
            await client.ended()
            await client.close()
        await backend.silent(0.02)


async def test_drain_lets_a_response_end_that_promised_more(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok(b"whole")[:-3])
        await client.until(b"wh")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drained, rig)
            await client.silent()
            await backend.say(b"ole")
            await client.hear(b"ole")
            await client.ended()
            await client.close()


async def test_drain_waits_for_a_client_that_is_still_reading(tmp_path):
    body = b"x" * 3_000_000
    async with scripted(tmp_path) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        rig.nursery.start_soon(backend.say, ok(body))
        await eventually(lambda: bool(rig.downstreams[0].backlog))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drained, rig)
            assert (await client.message()).body == body
            await client.ended()
            await client.close()


async def test_drain_answers_a_head_that_was_on_its_way(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get()[:9])
        await eventually(lambda: bool(rig.downstreams and rig.downstreams[0]._buffer))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drained, rig)
            await client.silent(0.02)
            await client.say(get()[9:])
            backend = await rig.accept()
            await backend.message()
            await backend.say(ok(b"fine"))
            assert (await client.message())["connection"] == b"close"
            await client.close()


async def test_drain_leaves_tunnels_their_time(tmp_path):
    async with scripted(tmp_path) as rig:
        client, backend = await tunnel(rig)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drained, rig)
            await client.silent()
            await client.say(b"last words")
            await backend.hear(b"last words")
            await client.close()
            await backend.close()


async def test_drain_waits_for_an_upgrade_in_progress_and_its_tunnel(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(OPENING)
        backend = await rig.accept()
        await backend.head()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drained, rig)
            await client.silent()
            await backend.say(ACCEPTING)
            assert (await client.head()).status == 101
            await client.say(b"hello")
            await backend.hear(b"hello")
            await client.silent()
            await client.close()
            await backend.close()


async def test_drain_serves_requests_that_came_just_before_it(tmp_path):
    async with scripted(tmp_path) as rig:
        recorder = rig.record()
        idle = await rig.exchange(get(b"/1"))
        await idle.message()
        clients = [idle, await rig.client()]
        await rig.settled(clients=2, idle_upstreams=1, descriptors=3)

        async def ask_and_drain() -> None:
            # In one turn of one task: the proxy hears of nothing before it drains.
            clients.append(rig.connect_now())
            for number, client in enumerate(clients, 2):
                client.say_now(get(b"/%d" % number))
            await drained(rig)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_and_drain)
            for number, client in enumerate(clients, 2):
                response = await client.message()
                assert response.body == b"GET /%d HTTP/1.1" % number
                assert response["connection"] == b"close"
                await client.ended()
                await client.close()
        assert len(recorder.requests) == 4


async def test_a_drain_before_the_listeners_listen_leaves_them_closed(tmp_path):
    async with scripted(tmp_path, may_listen=False) as rig:
        await drained(rig)
        rig.may_listen.set()
        await rig.plane.accepting.wait()
        with pytest.raises(OSError, match="refused"):
            await rig.client()


async def test_at_the_time_out_of_drain_nothing_unfinished_looks_finished(tmp_path):
    async with scripted(tmp_path) as rig:
        waiting = await rig.exchange(get())
        silent = await rig.accept()
        await silent.message()
        reading = await rig.exchange(get())
        sending = await rig.accept()
        await sending.message()
        await sending.say(head(b"HTTP/1.1 200 OK") + b"no end stated")
        await reading.until(b"no end stated")
        with capture_logs():
            await drained(rig, timeout_s=0.1)
        assert (await waiting.message()).status == 503
        await waiting.ended()
        await reading.broken()


async def test_drain_cuts_what_is_left_at_its_time_out(tmp_path):
    async with scripted(tmp_path) as rig:
        client, backend = await tunnel(rig)
        waiting = await rig.exchange(get())
        stuck = await rig.accept()
        await stuck.message()
        with capture_logs() as logs:
            await drained(rig, timeout_s=0.1)
        assert [(line["clients"], line["tunnels"]) for line in logs] == [(1, 1)]
        for wire in (client, backend, waiting, stuck):
            await wire.gone()
        await rig.settled()


async def test_the_end_of_the_data_plane_leaves_no_socket_open(tmp_path):
    origin = Origin()
    async with running(tmp_path, {"s1": origin.port}) as rig:
        rig.origins = {"s1": origin}
        client, backend = await tunnel(rig)
        waiting = await rig.exchange(get())
        stuck = await rig.accept()
        await stuck.message()
        partial = await rig.exchange(head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 9"))
    for wire in (client, backend, waiting, stuck, partial):
        await wire.gone()
        await wire.close()
    origin.close()
