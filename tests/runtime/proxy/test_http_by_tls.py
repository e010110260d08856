"""HTTP with TLS on both sides of the proxy: what must not differ from HTTP in the clear."""

import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.runtime.proxy.messages import get, head, ok, ok_chunked, post, post_chunked
from tests.runtime.proxy.rig import Rig, eventually
from tests.runtime.proxy.test_backend_tls import Farm, farm
from tests.runtime.proxy.tls import Site
from tests.runtime.proxy.wire import Wire

LARGE = hashlib.shake_256(b"large").digest(3_000_000)
BACKLOG_MAX = 200_000
"""Of one stream: what was read at a time, sealed."""


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@asynccontextmanager
async def both(tmp_path, site: Site) -> AsyncIterator[tuple[Rig, Farm, Wire]]:
    """A rig with TLS on both sides, and a client that has shaken hands."""
    async with farm(tmp_path, site, listener=site.listener) as (rig, backends):
        yield rig, backends, await site.client(rig)


async def kept(client: Wire, backends: Farm) -> Wire:
    """The backend's end of a connection that has served a request and is kept."""
    await client.say(get())
    backend = await backends.accept()
    await backend.message()
    await backend.say(ok(b"first"))
    assert (await client.message()).body == b"first"
    return backend


@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_a_get_is_repeated_when_the_backend_has_closed_a_kept_connection(
    tmp_path, site, says_goodbye
):
    async with both(tmp_path, site) as (rig, backends, client):
        old = await kept(client, backends)
        await client.say(get(b"/again"))
        assert (await old.message()).line == b"GET /again HTTP/1.1"
        if says_goodbye:
            await old.stream.aclose()
        else:
            old.stream.socket.close()
        new = await backends.accept()
        assert (await new.message()).line == b"GET /again HTTP/1.1"
        await new.say(ok(b"second"))
        assert (await client.message()).body == b"second"
        assert rig.plane.counters.retries == 1


async def test_a_post_is_not_repeated(tmp_path, site):
    async with both(tmp_path, site) as (rig, backends, client):
        old = await kept(client, backends)
        await client.say(post(b"pay"))
        assert (await old.message()).body == b"pay"
        old.stream.socket.close()
        assert (await client.message()).status == 502
        assert rig.plane.counters.retries == 0


@pytest.mark.parametrize("response", [ok(b"x" * 1_000), ok_chunked(b"x" * 500, b"y" * 500)])
async def test_a_response_that_is_cut_off_is_passed_on_as_far_as_it_came(tmp_path, site, response):
    async with both(tmp_path, site) as (_, backends, client):
        await client.say(get())
        backend = await backends.accept()
        await backend.message()
        start, end = response.index(b"\r\n\r\n") + 4, len(response) - 300
        await backend.say(response[:end])
        await client.head()
        await backend.stream.aclose()  # With a goodbye: it is the length that is missing.
        assert await client.remains() == response[start:end]


async def test_a_client_that_expects_100_continue_waits_for_the_backends_word(tmp_path, site):
    async with both(tmp_path, site) as (_, backends, client):
        await client.say(post(b"", b"Expect: 100-continue").replace(b": 0", b": 5"))
        backend = await backends.accept()
        assert (await backend.head())["expect"] == b"100-continue"
        await client.silent()
        await backend.say(head(b"HTTP/1.1 100 Continue"))
        assert (await client.head()).status == 100
        await client.say(b"12345")
        assert await backend.exactly(5) == b"12345"
        await backend.say(ok(b"thanks"))
        assert (await client.message()).body == b"thanks"


async def test_trailers_pass_both_ways(tmp_path, site):
    async with both(tmp_path, site) as (_, backends, client):
        await client.say(post_chunked(b"one", b"two", trailers=(b"X-Sum: 6",)))
        backend = await backends.accept()
        request = await backend.message()
        assert (request.body, request.trailers) == (b"onetwo", [b"X-Sum: 6"])
        await backend.say(ok_chunked(b"three", trailers=(b"X-Sum: 5",)))
        response = await client.message()
        assert (response.body, response.trailers) == (b"three", [b"X-Sum: 5"])


async def test_pipelined_requests_are_answered_in_order(tmp_path, site):
    async with both(tmp_path, site) as (_, backends, client):
        await client.say(get(b"/1") + get(b"/2") + post(b"body", path=b"/3"))
        backend = await backends.accept()
        for number in (1, 2, 3):
            assert (await backend.message()).line.split()[1] == b"/%d" % number
            await backend.say(ok(b"%d" % number))
            assert (await client.message()).body == b"%d" % number


async def test_heads_in_single_bytes_pass_both_ways(tmp_path, site):
    async with both(tmp_path, site) as (_, backends, client):
        await client.dribble(get(b"/slow"))
        backend = await backends.accept()
        assert (await backend.message()).line == b"GET /slow HTTP/1.1"
        await backend.dribble(ok(b"in pieces"))
        assert (await client.message()).body == b"in pieces"


@pytest.mark.parametrize("frame", ["length", "chunked"])
async def test_a_slow_client_gets_a_large_response_whole_and_within_bounds(tmp_path, site, frame):
    async with farm(tmp_path, site, listener=site.listener) as (rig, backends):
        client = await site.client(rig, receive_bytes=16_384)
        await client.say(get())
        backend = await backends.accept()
        await backend.message()
        (downstream,) = rig.downstreams
        downstream.plain_sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        response = ok(LARGE) if frame == "length" else ok_chunked(LARGE[:99], LARGE[99:])
        body = response[response.index(b"\r\n\r\n") + 4 :]
        rig.nursery.start_soon(backend.say, response)
        await client.head()
        heard, worst = bytearray(), 0
        while len(heard) < len(body):
            heard += await client.some(50_000)
            worst = max(worst, len(downstream.backlog or b""))
        assert heard == body
        assert 0 < worst <= BACKLOG_MAX


async def test_a_slow_backend_gets_a_large_request_whole(tmp_path, site):
    async with both(tmp_path, site) as (rig, backends, client):
        rig.nursery.start_soon(client.say, post(LARGE))
        backend = await backends.accept()
        await backend.head()
        assert await backend.exactly(len(LARGE)) == LARGE
        await backend.say(ok(b"stored"))
        assert (await client.message()).body == b"stored"


@pytest.mark.parametrize("resets", [True, False])
async def test_a_client_that_leaves_within_its_response_takes_the_backends_connection_along(
    tmp_path, site, resets
):
    async with both(tmp_path, site) as (rig, backends, client):
        await client.say(get())
        backend = await backends.accept()
        await backend.message()
        await backend.say(ok(b"x" * 1_000)[:-300])
        await client.head()
        if resets:
            client.reset()
        else:
            client.close_now()
        await backend.gone()
        await eventually(lambda: rig.tally.connections == 0)
        await rig.settled()


async def test_a_backend_that_answers_early_ends_the_clients_connection_behind_its_answer(
    tmp_path, site
):
    async with both(tmp_path, site) as (_, backends, client):
        await client.say(post(LARGE)[:500])
        backend = await backends.accept()
        await backend.head()
        await backend.say(head(b"HTTP/1.1 413 Content Too Large", b"Content-Length: 0"))
        assert (await client.message()).status == 413
        with trio.fail_after(20):
            await client.ended()
