"""Bodies, interim responses and trailers, both ways; large ones with slow partners."""

import hashlib
import random

import pytest
import trio

from tests.runtime.proxy.messages import chunked, get, head, ok, ok_chunked, post, post_chunked
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.wire import Wire

LARGE = random.Random(5).randbytes(6 << 20)
STREAM_BACKLOG_MAX = 65_536 + 1_024


def backlogs(rig: Rig) -> list[int]:
    streams = rig.downstreams + [s._upstream for s in rig.downstreams if s._upstream]
    return [len(s.backlog or b"") for s in streams]


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", head(b"HTTP/1.1 200 OK", b"Content-Length: 12")),
        (b"HEAD", head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")),
        (b"HEAD", head(b"HTTP/1.1 200 OK")),
        (b"GET", head(b"HTTP/1.1 204 No Content")),
        (b"GET", head(b"HTTP/1.1 304 Not Modified", b'ETag: "1"', b"Content-Length: 12")),
    ],
)
async def test_a_response_that_has_no_body_by_rule_is_complete_after_its_head(
    tmp_path, method, response
):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        backend = None
        for _ in range(2):
            await client.say(head(method + b" / HTTP/1.1", b"Host: shop"))
            backend = backend or await rig.accept()
            await backend.message()
            await backend.say(response)
            assert (await client.message(bodiless=True)).raw == response
            await client.silent(0.01)


async def test_interim_responses_go_to_the_client_as_they_come(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        hints = head(b"HTTP/1.1 103 Early Hints", b"Link: </a.css>; rel=preload")
        await backend.say(hints)
        assert (await client.head()).raw == hints
        await backend.say(hints + ok(b"page"))
        assert (await client.head()).raw == hints
        assert (await client.message()).body == b"page"


async def test_an_http10_client_sees_no_interim_response(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(version=b"1.0"))
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 103 Early Hints"), ok(b"page"))
        assert (await client.message()).status == 200


async def test_a_backend_that_only_sends_interim_responses_is_stopped(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 102 Processing") * 40)
        answer = await client.rest()
        assert b"HTTP/1.1 502 " in answer
        assert answer.count(b"HTTP/1.1 102 ") < 40
        await backend.gone()


async def test_a_client_that_expects_100_continue_waits_for_the_backends_word(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(post(b"", b"Expect: 100-continue").replace(b": 0", b": 5"))
        backend = await rig.accept()
        assert (await backend.head())["expect"] == b"100-continue"
        await client.silent()
        await backend.say(head(b"HTTP/1.1 100 Continue"))
        assert (await client.head()).status == 100
        await client.say(b"hello")
        await backend.hear(b"hello")
        await backend.say(ok(b"thanks"))
        assert (await client.message()).body == b"thanks"
        await client.say(get())
        assert (await backend.message()).line == b"GET / HTTP/1.1"


async def test_a_refused_expectation_ends_both_connections(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(post(b"", b"Expect: 100-continue").replace(b": 0", b": 5"))
        backend = await rig.accept()
        await backend.head()
        await backend.say(head(b"HTTP/1.1 417 Expectation Failed", b"Content-Length: 0"))
        response = await client.message()
        assert (response.status, response["connection"]) == (417, b"close")
        await client.ended()
        await backend.gone()


async def test_trailers_pass_in_responses(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/", b"TE: trailers"))
        backend = await rig.accept()
        request = await backend.message()
        assert (request["te"], request["connection"]) == (b"trailers", b"TE")
        message = ok_chunked(b"abc", b"defg", trailers=(b"X-Sum: 7", b"X-End: yes"))
        await backend.say(message)
        response = await client.message()
        assert response.raw == message
        assert response.trailers == [b"X-Sum: 7", b"X-End: yes"]


async def test_trailers_and_chunks_pass_in_requests(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(post_chunked(b"abc", b"defg", trailers=(b"X-Sum: 7",)))
        backend = await rig.accept()
        request = await backend.message()
        assert (request.body, request.trailers) == (b"abcdefg", [b"X-Sum: 7"])
        assert "content-length" not in request
        await backend.say(ok())
        await client.message()


async def test_chunk_extensions_and_leading_zeros_do_not_move_the_end_of_a_body(tmp_path):
    body = b'0003;a=b;c="d;\\" e"\r\nabc\r\n000\r\n\r\n'
    async with scripted(tmp_path) as rig:
        start = post_chunked().removesuffix(chunked())
        client = await rig.exchange(start + body + get(b"/next"))
        backend = await rig.accept()
        assert (await backend.message()).body == b"abc"
        await backend.say(ok())
        assert (await backend.message()).line == b"GET /next HTTP/1.1"
        await backend.say(ok())
        await client.message()


@pytest.mark.parametrize("frame", ["length", "chunked"])
async def test_a_large_upload_reaches_a_slow_backend_whole_and_within_bounds(tmp_path, frame):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        pieces = [LARGE[i : i + 100_000] for i in range(0, len(LARGE), 100_000)]
        message = post(LARGE) if frame == "length" else post_chunked(*pieces)
        rig.nursery.start_soon(client.say, message)
        backend = await rig.accept()
        await backend.head()
        await eventually(lambda: any(backlogs(rig)))
        heard, worst = bytearray(), 0
        expected = message[message.index(b"\r\n\r\n") + 4 :]
        while len(heard) < len(expected):
            heard += await backend.some(200_000)
            worst = max(worst, *backlogs(rig))
            await trio.sleep(0.001)
        assert hashlib.sha256(heard).digest() == hashlib.sha256(expected).digest()
        assert 0 < worst <= STREAM_BACKLOG_MAX
        await backend.say(ok(b"stored"))
        assert (await client.message()).body == b"stored"


@pytest.mark.parametrize("frame", ["length", "chunked", "close", "decoded"])
async def test_a_large_download_reaches_a_slow_client_whole_and_within_bounds(tmp_path, frame):
    async with scripted(tmp_path) as rig:
        client = await rig.client(receive_bytes=65_536)
        await client.say(get(version=b"1.0" if frame == "decoded" else b"1.1"))
        backend = await rig.accept()
        await backend.message()
        rig.nursery.start_soon(_send_large, backend, frame)
        start = await client.head()
        heard, worst = bytearray(), 0
        expected = chunked(LARGE[:99], LARGE[99:]) if frame == "chunked" else LARGE
        while len(heard) < len(expected):
            heard += await client.some(200_000)
            worst = max([worst, *backlogs(rig)])
            await trio.sleep(0.001)
        assert hashlib.sha256(heard).digest() == hashlib.sha256(expected).digest()
        assert 0 < worst <= STREAM_BACKLOG_MAX
        if frame in ("close", "decoded"):
            assert start["connection"] == b"close"
            await client.ended()


async def _send_large(backend: Wire, frame: str) -> None:
    if frame == "length":
        await backend.say(ok(LARGE))
    elif frame == "close":
        await backend.say(head(b"HTTP/1.1 200 OK"), LARGE)
        await backend.close()
    else:
        await backend.say(ok_chunked(LARGE[:99], LARGE[99:]))


async def test_a_slow_client_gets_all_of_a_response_whose_backend_broke_off_behind_it(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(get(b"/", b"Connection: close"))
        backend = await rig.accept()
        await backend.message()
        size = 300_000
        await backend.say(ok(LARGE[:size]))
        await eventually(lambda: rig.backend().connections == 0)
        backend.reset()
        assert (await client.message()).body == LARGE[:size]
        await client.ended()


async def test_a_broken_backend_does_not_push_its_last_bytes_past_the_bound(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK", b"Content-Length: 90000000"))
        rig.nursery.start_soon(backend.say_in_vain, LARGE * 10)
        await eventually(lambda: max(backlogs(rig), default=0) > 0)
        backend.reset()
        await trio.sleep(0.1)
        assert max(backlogs(rig), default=0) <= STREAM_BACKLOG_MAX


async def test_an_early_response_reaches_a_client_that_is_still_sending(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        await client.say(head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 9000000"))
        await client.say(b"x" * 100_000)
        backend = await rig.accept()
        await backend.head()
        await backend.exactly(100_000)
        await backend.say(head(b"HTTP/1.1 413 Content Too Large", b"Content-Length: 0"))
        response = await client.message()
        assert (response.status, response["connection"]) == (413, b"close")
        await client.say(b"x" * 100_000)
        await client.ended()
        await backend.gone()


async def test_an_early_response_goes_on_while_the_upload_goes_on(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        await client.say(head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 6"))
        backend = await rig.accept()
        await backend.head()
        await backend.say(head(b"HTTP/1.1 200 OK", b"Content-Length: 6"))
        await client.head()
        for letter in (b"a", b"b", b"c"):
            await client.say(letter * 2)
            await backend.hear(letter * 2)
            await backend.say(letter * 2)
            await client.hear(letter * 2)
        await client.ended()


async def test_an_early_response_and_a_closed_door_still_give_the_client_its_answer(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        await client.say(head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 900000000"))
        backend = await rig.accept()
        await backend.head()
        await backend.say(head(b"HTTP/1.1 403 Forbidden", b"Content-Length: 3") + b"no!")
        await backend.close()
        response = await client.message()
        assert (response.status, response.body) == (403, b"no!")
