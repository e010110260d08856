"""Smuggled requests and split responses: the table in `smuggling.toml`, tried whole and in bytes.

The backend reads strictly by what it is told, and records; the test proves how many requests have
arrived, with what bodies, and that whoever asks next gets the answer to its own request.
"""

import contextlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.runtime.proxy.messages import get, head, ok
from tests.runtime.proxy.rig import Rig, scripted
from tests.runtime.proxy.wire import Message, Wire

TABLE = tomllib.loads((Path(__file__).parent / "smuggling.toml").read_text(encoding="utf-8"))


def cases(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", TABLE[kind], ids=lambda case: case["name"])


def raw(case: dict[str, Any]) -> bytes:
    return str(case["sent"]).encode("latin-1")


class StrictBackend:
    """Reads what it is sent as it is framed, answers each request with its line, and records."""

    def __init__(self, rig: Rig) -> None:
        self.heard: list[Message] = []
        self._rig = rig

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            with contextlib.suppress(trio.ClosedResourceError):
                while True:
                    nursery.start_soon(self._serve, await self._rig.accept())

    async def _serve(self, wire: Wire) -> None:
        try:
            while True:
                message = await wire.message()
                self.heard.append(message)
                await wire.say(ok(message.line))
        except (AssertionError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # The proxy has closed the connection, between two requests or in one.


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@cases("request")
async def test_a_backend_hears_exactly_the_requests_that_were_made(
    tmp_path: Path, case: dict[str, Any], how: str
) -> None:
    async with scripted(tmp_path) as rig:
        backend = StrictBackend(rig)
        rig.nursery.start_soon(backend.run)
        client = await rig.client()
        if how == "whole":
            await client.say(raw(case))
        else:
            await client.dribble(raw(case))
        answers = [await client.message() for _ in case["answered"]]
        assert [answer.status for answer in answers] == case["answered"]
        if "server" in answers[-1] or answers[-1].all("connection") == [b"close"]:
            await client.ended()
        else:
            await client.silent(0.01)
        heard = [f"{m.line.decode()}|{m.body.decode('latin-1')}" for m in backend.heard]
        assert heard == case["heard"]
        for message in backend.heard:
            assert message["host"].decode() == case.get("host", "shop")
            assert not {name for name in case.get("never", []) if name in message}


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@cases("response")
async def test_a_response_is_whole_and_the_next_one_belongs_to_the_next_request(
    tmp_path: Path, case: dict[str, Any], how: str
) -> None:
    method = str(case.get("method", "GET")).encode()
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(head(method + b" /first HTTP/1.1", b"Host: shop"))
        backend = await rig.accept()
        await backend.message()
        if how == "whole":
            await backend.say_in_vain(raw(case))
        else:
            await dribble_in_vain(backend, raw(case))
        if case["status"]:
            answer = await client.message(bodiless=method == b"HEAD")
            assert answer.status == case["status"]
            assert b"evil" not in answer.raw
            assert answer.body == case["body"].encode() if "body" in case else True
            closes = "connection" in answer
        else:
            assert b"evil" not in await client.remains()
            closes = True
        other = await rig.client() if closes else client
        await backend.gone()
        await other.say(get(b"/second"))
        fresh = await rig.accept()
        assert (await fresh.message()).line == b"GET /second HTTP/1.1"
        await fresh.say(ok(b"second"))
        assert (await other.message()).body == b"second"
        await other.silent(0.01)


async def dribble_in_vain(wire: Wire, message: bytes) -> None:
    """Byte by byte, until the proxy has had enough."""
    for start in range(len(message)):
        await wire.say_in_vain(message[start : start + 1])
        await trio.lowlevel.checkpoint()


def test_every_case_has_a_name_of_its_own_and_says_where_it_is_from() -> None:
    every = TABLE["request"] + TABLE["response"]
    assert len({case["name"] for case in TABLE["request"]}) == len(TABLE["request"])
    assert len({case["name"] for case in TABLE["response"]}) == len(TABLE["response"])
    assert all(case["kind"] for case in every)
