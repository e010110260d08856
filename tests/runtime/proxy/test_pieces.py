"""Whatever pieces the bytes come in, the same messages leave the proxy."""

import pytest
import trio

from tests.runtime.proxy.messages import get, head, ok, ok_chunked, post, post_chunked
from tests.runtime.proxy.rig import Rig, scripted
from tests.runtime.proxy.wire import Wire

REQUESTS = {
    "get": get(b"/a?b=c", b"Accept: */*"),
    "length": post(b"0123456789"),
    "chunked": post_chunked(b"hello", b"world!", trailers=(b"X-Sum: 11",)),
    "two": get(b"/1") + post_chunked(b"x") + get(b"/2"),
    "empty lines first": b"\r\n\r\n" + get(),
}
RESPONSES = {
    "empty": ok(),
    "length": ok(b"0123456789"),
    "chunked": ok_chunked(b"hello", b"world!", trailers=(b"X-Sum: 11",)),
    "interim": head(b"HTTP/1.1 103 Early Hints", b"Link: </a>") + ok(b"page"),
    "no content": head(b"HTTP/1.1 204 No Content"),
}


async def serve_one(rig: Rig, backend: Wire | None, answer: bytes) -> tuple[Wire, bytes]:
    backend = backend or await rig.accept()
    request = await backend.message()
    await backend.say(answer)
    return backend, request.line + request.body + b"".join(request.trailers)


async def seen(rig: Rig, pieces: list[bytes], count: int) -> list[bytes]:
    """What the backend saw of `count` requests that came as `pieces`, one event each."""
    heard = []
    backend = None
    client = await rig.client()
    rig.nursery.start_soon(say_apart, client, pieces)
    for _ in range(count):
        backend, request = await serve_one(rig, backend, ok(b"."))
        heard.append(request)
    for _ in range(count):
        assert (await client.message()).body == b"."
    await client.close()
    await backend.close()
    await rig.settled()
    return heard


async def say_apart(wire: Wire, pieces: list[bytes]) -> None:
    for piece in pieces:
        await wire.say(piece)
        await trio.sleep(0.0005)


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_split_at_every_byte_is_the_same_request(tmp_path, name):
    message = REQUESTS[name]
    count = message.count(b" HTTP/1.1\r\n")
    async with scripted(tmp_path) as rig:
        whole = await seen(rig, [message], count)
        for at in range(1, len(message)):
            assert await seen(rig, [message[:at], message[at:]], count) == whole
        single = [message[i : i + 1] for i in range(len(message))]
        assert await seen(rig, single, count) == whole


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_split_at_every_byte_is_the_same_response(tmp_path, name):
    message = RESPONSES[name]
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        backend = None
        splits = [[message]] + [[message[:at], message[at:]] for at in range(1, len(message))]
        for pieces in [*splits, [message[i : i + 1] for i in range(len(message))]]:
            await client.say(get())
            backend = backend or await rig.accept()
            await backend.message()
            rig.nursery.start_soon(say_apart, backend, pieces)
            assert await client.exactly(len(message)) == message
        assert rig.plane.counters.connects == 1
