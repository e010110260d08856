"""Clients and backends that say and do anything: no bug shows, and nothing is left behind.

What they do follows from a seed; how it interleaves does not. The parameter is the seed to try
again with.
"""

import random
from contextlib import suppress

import pytest
import trio
from structlog.testing import capture_logs

from tests.runtime.proxy.messages import get, head, ok, ok_chunked, post, post_chunked
from tests.runtime.proxy.rig import Rig, scripted
from tests.runtime.proxy.test_upgrade import ACCEPTING, OPENING
from tests.runtime.proxy.wire import Origin, Wire

CLIENTS = 150
STICKY = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"\n[[pool.app.sticky]]\nby = "cookie"'
SHORT = 'timeouts = { head = "200ms", idle = "200ms", tunnel_idle = "1s" }'
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)

REQUESTS = [
    get(),
    get(b"/", b"X-Key: k", b"Connection: close"),
    get(b"/", b"Connection: keep-alive", version=b"1.0"),
    head(b"HEAD / HTTP/1.1", b"Host: shop"),
    post(b"x" * 100),
    post(b"y" * 200_000),
    post(b"z", b"Expect: 100-continue"),
    post_chunked(b"abc", b"d" * 70_000, trailers=(b"X: y",)),
    OPENING + b"early",
    b"\r\n" + get(),
    b"nonsense\r\n\r\n",
    get()[:-1],
]
RESPONSES = [
    ok(),
    ok(b"x" * 300_000),
    ok(b"z", b"Connection: close"),
    ok_chunked(b"abc", b"d" * 90_000, trailers=(b"X: y",)),
    head(b"HTTP/1.1 200 OK") + b"to the end",
    head(b"HTTP/1.1 204 No Content"),
    head(b"HTTP/1.1 100 Continue") + ok(b"c"),
    ACCEPTING + b"frames",
    ok() + ok(b"evil"),
    ok(b"12345")[:-2],
    b"nonsense\r\n\r\n",
    b"",
]


def worn(rng: random.Random, message: bytes) -> bytes:
    """Mostly `message`, sometimes with a byte changed, lost or added near its start."""
    if rng.random() < 0.7 or not message:
        return message
    at = rng.randrange(min(len(message), 300))
    middle = rng.choice((b"", bytes((rng.randrange(256),)), message[at : at + 1] + b"\n"))
    return message[:at] + middle + message[at + 1 :]


async def say(rng: random.Random, wire: Wire, message: bytes) -> None:
    while message:
        size = rng.choice((40, 4_096, 70_000, 400_000))
        await wire.say(message[:size])
        message = message[size:]
        await trio.sleep(rng.choice((0, 0, 0.001)))


def leave(rng: random.Random, wire: Wire) -> None:
    if rng.random() < 0.4:
        wire.reset()
    else:
        wire.close_now()


async def client(rng: random.Random, rig: Rig) -> None:
    wire = await rig.client(receive_bytes=rng.choice((4_096, None)))

    async def read() -> None:
        with suppress(*BROKEN):
            async for heard in wire.stream:
                await trio.sleep(0.01 if len(heard) < 100 else 0)

    with trio.move_on_after(rng.uniform(0, 0.2)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with suppress(*BROKEN):
                for _ in range(rng.randint(1, 4)):
                    await say(rng, wire, worn(rng, rng.choice(REQUESTS)))
                if rng.random() < 0.3:
                    await wire.fin()
    leave(rng, wire)


async def serve(rng: random.Random, wire: Wire) -> None:
    with suppress(*BROKEN):
        while await wire.stream.receive_some(rng.choice((100, 65_536))) and rng.random() < 0.9:
            if rng.random() < 0.7:
                await say(rng, wire, worn(rng, rng.choice(RESPONSES)))
    leave(rng, wire)


async def backend(rng: random.Random, origin: Origin) -> None:
    with suppress(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(serve, rng, await origin.accept(talks=False))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_clients_and_backends_do_no_bug_shows_and_nothing_is_left(tmp_path, seed):
    rng = random.Random(seed)
    with capture_logs() as logs:
        async with scripted(
            tmp_path,
            "s1",
            "s2",
            sticky=STICKY,
            listener=SHORT,
            pool='response_timeout = "100ms"',
        ) as rig:
            async with trio.open_nursery() as nursery:
                for origin in rig.origins.values():
                    nursery.start_soon(backend, rng, origin)
                async with trio.open_nursery() as clients:
                    for _ in range(CLIENTS):
                        clients.start_soon(client, rng, rig)
                        await trio.sleep(0.003)
                nursery.cancel_scope.cancel()
            assert rig.tally.accepted == CLIENTS
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []
