"""Requests that are refused, and the proof that nothing behind them is taken for a request.

The backend records every byte and takes whatever looks like a request line for a request, as the
most careless server would.
"""

import random

import pytest
import trio

from tests.runtime.proxy.messages import get, head, ok, post, post_chunked
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.wire import Wire

EVIL = get(b"/evil")
HOST = b"Host: shop"


def start(*fields: bytes, line: bytes = b"POST /first HTTP/1.1") -> bytes:
    return head(line, HOST, *fields)


HIDDEN = b"0\r\n\r\n" + EVIL
CHUNKED = b"Transfer-Encoding: chunked"

AMBIGUOUS = {
    "length and chunked": start(b"Content-Length: 6", CHUNKED) + HIDDEN,
    "chunked and length": start(CHUNKED, b"Content-Length: 6") + HIDDEN,
    "two lengths": start(b"Content-Length: 0", b"Content-Length: 5") + EVIL,
    "two equal lengths": start(b"Content-Length: 0", b"Content-Length: 0") + EVIL,
    "a list of lengths": start(b"Content-Length: 0, 0") + EVIL,
    "a signed length": start(b"Content-Length: +0") + EVIL,
    "a negative length": start(b"Content-Length: -1") + EVIL,
    "a hexadecimal length": start(b"Content-Length: 0x0") + EVIL,
    "a length with space inside": start(b"Content-Length: 1 0") + EVIL,
    "a length of other digits": start("Content-Length: ٠".encode()) + EVIL,
    "a length beyond counting": start(b"Content-Length: " + b"9" * 30) + EVIL,
    "an empty length": start(b"Content-Length:") + EVIL,
    "space before the colon": start(b"Content-Length : 5") + EVIL,
    "tab before the colon": start(b"Transfer-Encoding\t: chunked") + HIDDEN,
    "a name in quotes": start(b'"Content-Length": 5') + EVIL,
    "chunked twice": start(CHUNKED, CHUNKED) + HIDDEN,
    "a coding before chunked": start(b"Transfer-Encoding: gzip, chunked") + HIDDEN,
    "a coding behind chunked": start(b"Transfer-Encoding: chunked, identity") + HIDDEN,
    "identity": start(b"Transfer-Encoding: identity") + HIDDEN,
    "an unknown coding": start(b"Transfer-Encoding: xchunked") + HIDDEN,
    "a coding with a parameter": start(b"Transfer-Encoding: chunked;q=1") + HIDDEN,
    "a coding in quotes": start(b'Transfer-Encoding: "chunked"') + HIDDEN,
    "an empty coding": start(b"Transfer-Encoding:") + HIDDEN,
    "a vertical tab in the coding": start(b"Transfer-Encoding: \x0bchunked") + HIDDEN,
    "chunked from HTTP/1.0": start(CHUNKED, line=b"POST / HTTP/1.0") + HIDDEN,
    "a folded field": start(b"X: a\r\n Content-Length: 5") + EVIL,
    "a folded coding": start(b"Transfer-Encoding:\r\n chunked") + HIDDEN,
    "a folded first field": head(b"GET / HTTP/1.1", b" " + HOST) + EVIL,
    "a bare LF between fields": b"GET / HTTP/1.1\r\nHost: shop\nX: y\r\n\r\n" + EVIL,
    "a bare LF as the end": b"GET / HTTP/1.1\r\nHost: shop\r\n\n" + EVIL,
    "only bare LFs": EVIL.replace(b"\r\n", b"\n") + EVIL,
    "a bare CR in a value": start(b"X: a\rContent-Length: 5") + EVIL,
    "a NUL in a value": start(b"X: a\0b") + EVIL,
    "a NUL in a name": start(b"X\0: a") + EVIL,
    "an empty name": start(b": a") + EVIL,
    "a line without a colon": start(b"Content-Length") + EVIL,
    "no Host": b"GET / HTTP/1.1\r\n\r\n" + EVIL,
    "two Hosts": start(b"Host: other") + EVIL,
    "a Host with a path": head(b"GET / HTTP/1.1", b"Host: shop/evil") + EVIL,
    "space in the target": head(b"GET /a b HTTP/1.1", HOST) + EVIL,
    "two spaces in the line": head(b"GET  / HTTP/1.1", HOST) + EVIL,
    "a tab in the line": head(b"GET\t/ HTTP/1.1", HOST) + EVIL,
    "no version": b"GET /\r\n\r\n" + EVIL,
    "a method that is no token": head(b"G@T / HTTP/1.1", HOST) + EVIL,
    "a control byte in the target": head(b"GET /\x01 HTTP/1.1", HOST) + EVIL,
    "hiding a field by Connection": start(b"Connection: content-length", b"Content-Length: 5"),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n" + EVIL,
}

BAD_CHUNKS = {
    "no size": b"\r\n",
    "no hexadecimal size": b"g\r\n",
    "a signed size": b"+5\r\nhello\r\n",
    "a negative size": b"-5\r\nhello\r\n",
    "a prefixed size": b"0x5\r\nhello\r\n",
    "space before the size": b" 5\r\nhello\r\n",
    "space behind the size": b"5 \r\nhello\r\n",
    "a size beyond counting": b"f" * 17 + b"\r\nhello\r\n",
    "an underscore in the size": b"1_0\r\nhello\r\n",
    "a bare LF behind the size": b"5\nhello\r\n",
    "a bare LF behind the chunk": b"5\r\nhello\n",
    "a bare CR behind the size": b"5\rX\r\nhello\r\n",
    "more than the size": b"5\r\nhello world\r\n",
    "an extension that hides a line": b"5;a\nb\r\nhello\r\n",
    "a bare LF in an extension": b'5;a="\n"\r\nhello\r\n',
    "an endless extension": b"5;" + b"a" * 5_000,
    "an endless size": b"0" * 5_000,
    "a framing trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "a malformed trailer": b"0\r\nX y\r\n\r\n",
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
}


async def refused(rig: Rig, message: bytes, *statuses: int) -> Wire:
    """The one answer to `message` has one of `statuses` and ends the connection."""
    client = await rig.exchange(message)
    answer = await client.message()
    assert answer.status in statuses, answer.line
    assert answer["connection"] == b"close"
    assert answer["server"] == b"meshlb"
    await client.ended()
    return client


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_an_ambiguous_head_is_refused_and_nothing_of_it_reaches_the_backend(tmp_path, name):
    async with scripted(tmp_path) as rig:
        recorder = rig.record()
        await refused(rig, AMBIGUOUS[name], 400, 501, 505)
        assert recorder.connections == 0
        assert rig.tally.malformed == 1
        assert rig.tally.answered[4] + rig.tally.answered[5] == 1


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_an_ambiguous_head_in_the_pipeline_ends_it_after_the_responses_before_it(
    tmp_path, name
):
    async with scripted(tmp_path) as rig:
        recorder = rig.record()
        client = await rig.exchange(get(b"/good") + AMBIGUOUS[name])
        assert (await client.message()).body == b"GET /good HTTP/1.1"
        assert (await client.message()).status in (400, 501, 505)
        await client.ended()
        assert recorder.requests == [b"GET /good HTTP/1.1"]


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_a_malformed_chunk_ends_the_request_and_both_connections(tmp_path, name):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(start(CHUNKED) + b"2\r\nok\r\n")
        backend = await rig.accept()
        await backend.until(b"ok\r\n")
        await client.say(BAD_CHUNKS[name] + EVIL)
        answer = await client.message()
        assert (answer.status, answer["connection"]) == (400, b"close")
        await client.ended()
        assert b"evil" not in await backend.remains()
        assert rig.backend().idle == []
        await rig.origins["s1"].nobody(0.02)


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_a_malformed_chunk_that_comes_with_its_head_is_refused_too(tmp_path, name):
    async with scripted(tmp_path) as rig:
        await refused(rig, start(CHUNKED) + BAD_CHUNKS[name] + EVIL, 400)
        backend = await rig.accept()
        assert b"evil" not in await backend.remains()


@pytest.mark.parametrize("body", [EVIL, b"GET /evil HTTP/1.1\r\n\r\n" * 3])
async def test_a_body_that_looks_like_a_request_stays_a_body(tmp_path, body):
    async with scripted(tmp_path) as rig:
        for message in (post(body), post_chunked(body), post_chunked(body[:9], body[9:])):
            client = await rig.exchange(message + get(b"/last", b"Connection: close"))
            backend = await rig.accept()
            request = await backend.message()
            assert (request.line, request.body) == (b"POST / HTTP/1.1", body)
            await backend.say(ok(b"", b"Connection: close"))
            assert (await client.message()).status == 200
            last = await rig.accept()
            assert (await last.message()).line == b"GET /last HTTP/1.1"
            await last.say(ok(b"", b"Connection: close"))
            await client.message()
            await client.ended()


async def test_only_the_fields_that_state_the_end_of_the_body_reach_the_backend(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(
            start(b"transfer-encoding: Chunked", b"Keep-Alive: 5", b"Proxy-Connection: keep-alive")
            + b"0\r\n\r\n"
        )
        backend = await rig.accept()
        request = await backend.message()
        assert request.all("transfer-encoding") == [b"chunked"]
        assert not {"content-length", "keep-alive", "proxy-connection"} & {
            name.decode() for name, _ in request.fields
        }
        await backend.say(ok())
        await client.message()


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (head(b"CONNECT shop:443 HTTP/1.1", HOST), 405),
        (get(b"/", version=b"2.0"), 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (start(b"Content-Length: 1", b"Expect: miracles") + b"x", 417),
        (get(b"/", b"X: " + b"y" * 40_000), 431),
        (get(b"/" + b"y" * 40_000), 431),
        (get(b"/", *[b"X: y"] * 101), 431),
    ],
)
async def test_what_is_understood_but_not_served_gets_its_own_status(tmp_path, message, status):
    async with scripted(tmp_path) as rig:
        recorder = rig.record()
        await refused(rig, message + EVIL, status)
        assert recorder.connections == 0


async def test_a_head_may_be_as_long_as_the_limit_and_no_longer(tmp_path):
    async with scripted(tmp_path, listener='max_head = "1KiB"') as rig:
        rig.record()
        padding = 1_024 - len(get(b"/", b"X: "))
        client = await rig.exchange(get(b"/", b"X: " + b"y" * padding))
        assert (await client.message()).status == 200
        await refused(rig, get(b"/", b"X: " + b"y" * (padding + 1)), 431)
        await refused(rig, b"GET / HTTP/1.1\r\nX: " + b"y" * 2_000, 431)


async def test_a_refusal_has_a_body_also_after_a_head_request(tmp_path):
    async with scripted(tmp_path) as rig:
        rig.record()
        client = await rig.exchange(head(b"HEAD / HTTP/1.1", HOST))
        await client.message(bodiless=True)
        await client.say(b"nonsense\r\n\r\n")
        assert (await client.message()).body == b"400 Bad Request\n"
        await client.ended()


async def test_a_refused_head_request_gets_no_body(tmp_path):
    async with scripted(tmp_path) as rig:
        rig.origins["s1"].close()
        client = await rig.exchange(head(b"HEAD / HTTP/1.1", HOST))
        assert (await client.message(bodiless=True)).status == 502
        await client.ended()


async def test_a_refused_client_that_goes_on_sending_still_reads_its_answer(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(b"nonsense\r\n\r\n")
        for _ in range(20):
            await client.say(b"x" * 65_536)
        assert (await client.message()).status == 400
        await client.ended()


async def test_a_refused_client_is_not_listened_to_for_ever(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(b"nonsense\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await client.say(*[b"x" * 1_000_000] * 100)


async def test_endless_empty_lines_are_no_way_to_keep_a_connection(tmp_path):
    async with scripted(tmp_path, listener='max_head = "1KiB"') as rig:
        client = await rig.exchange(b"\r\n" * 600)
        assert (await client.message()).status == 400
        await client.ended()


async def test_random_bytes_are_refused_and_leave_nothing_behind(tmp_path):
    rng = random.Random(11)
    async with scripted(tmp_path) as rig:
        recorder = rig.record()
        for _ in range(100):
            junk = rng.randbytes(rng.randint(1, 400))
            client = await rig.exchange(junk + b"\r\n\r\n")
            assert (await client.message()).status in (400, 431, 505)
            await client.close()
        await eventually(lambda: rig.tally.connections == 0)
        assert recorder.connections == 0
