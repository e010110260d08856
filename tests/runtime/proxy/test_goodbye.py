"""WebSockets of a plane that drains: they are told between two frames, and have time to answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from meshlb.proxy import goodbye
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.test_handover import RELAYS, tunnel

GOING_AWAY = b"\x88\x02\x03\xe9"
ANSWER = b"\x88\x82\x00\x00\x00\x00\x03\xe9"
PATIENCE_S = 120.0


@asynccontextmanager
async def draining(rig: Rig, *, timeout_s: float = PATIENCE_S) -> AsyncIterator[None]:
    """The plane drains; it has to be done with the block."""
    with trio.fail_after(PATIENCE_S / 2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(rig.plane.drain, timeout_s=timeout_s))
            yield


@pytest.mark.parametrize("relay", RELAYS)
async def test_a_client_is_told_and_its_answer_goes_to_the_backend(tmp_path, relay, unhurried):
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)
        for number in range(20):  # With these it gets into the kernel, where it can.
            await backend.say(b"fro %d" % number)
            await client.hear(b"fro %d" % number)
            await client.say(b"to %d" % number)
            await backend.hear(b"to %d" % number)
        async with draining(rig):
            await client.hear(GOING_AWAY)
            await client.say(b"the last words" + ANSWER)
            await backend.hear(b"the last words" + ANSWER)
            await backend.say(GOING_AWAY)
            await backend.close()
            await client.hear(GOING_AWAY)
            await client.gone()
            await client.close()


@pytest.mark.parametrize("relay", RELAYS)
async def test_a_client_that_does_not_answer_is_disconnected_and_the_backend_told(
    tmp_path, relay, monkeypatch
):
    monkeypatch.setattr(goodbye, "ANSWER_S_MAX", 0.1)
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)
        async with draining(rig):
            await client.hear(GOING_AWAY)
            told = await backend.remains()
            assert told[:2] == ANSWER[:2]
            mask, payload = told[2:6], told[6:]
            assert bytes(a ^ b for a, b in zip(payload, mask, strict=False)) == GOING_AWAY[2:]
            await client.gone()


@pytest.mark.parametrize("relay", RELAYS)
async def test_a_backend_is_not_interrupted_within_a_frame(tmp_path, relay, monkeypatch, unhurried):
    monkeypatch.setattr(goodbye, "QUIET_S", 0.5)
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)
        async with draining(rig):
            message = b"\x82\x7e\x00\xc8" + bytes(200)
            for byte in range(0, len(message), 4):
                await backend.say(message[byte : byte + 4])
                await trio.sleep(0.02)
            await client.hear(message + GOING_AWAY)
            await client.close()
            await backend.gone()
            await backend.close()


async def test_what_a_slow_client_has_not_taken_comes_first(tmp_path):
    async with scripted(tmp_path, relay="off") as rig:
        client, backend = await tunnel(rig)
        message = bytes(8_000_000)
        async with draining(rig):
            rig.nursery.start_soon(backend.stream.send_all, message)
            await trio.sleep(2 * goodbye.QUIET_S)
            heard = b""
            while len(heard) < len(message) + len(GOING_AWAY):
                heard += await client.some(1_000_000)
            assert heard == message + GOING_AWAY
            await client.close()
            await backend.gone()
            await backend.close()


async def test_connections_that_are_no_websockets_are_told_nothing(tmp_path):
    async with scripted(tmp_path, protocol="tcp") as rig:
        client = await rig.exchange(b"on")
        backend = await rig.accept()
        await backend.hear(b"on")
        async with draining(rig, timeout_s=3 * goodbye.QUIET_S):
            assert await client.remains() == b""
            assert await backend.remains() == b""


async def test_who_has_said_its_last_word_is_told_nothing(tmp_path):
    async with scripted(tmp_path) as rig:
        client, backend = await tunnel(rig)
        await client.fin()
        await backend.ended()
        async with draining(rig, timeout_s=3 * goodbye.QUIET_S):
            assert await client.remains() == b""
            await eventually(lambda: not len(rig.plane.tunnels))
