import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from meshlb.demo.backend import HISTORY_MAX, OUTBOX_MAX, TEXT_CHARACTERS_MAX, Room
from meshlb.demo.client import open_chat
from tests.fakes.backends import NODES, backends


class Visitor:
    """The client's end of a chat."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def say(self, text: object) -> None:
        await self._socket.send_message(json.dumps({"text": text}))

    async def send(self, text: str) -> None:
        await self._socket.send_message(text)

    async def hear(self, kind: str) -> dict[str, Any]:
        """The next message of a type."""
        with trio.fail_after(60):
            while True:
                message: dict[str, Any] = json.loads(await self._socket.get_message())
                if message["type"] == kind:
                    return message


@asynccontextmanager
async def visit(address: str, name: str) -> AsyncIterator[Visitor]:
    async with open_chat(address, b"visitor=" + name.encode()) as socket:
        yield Visitor(socket)


async def test_the_page_names_its_visitor_and_needs_nothing_from_elsewhere() -> None:
    async with backends("s1") as found, httpx.AsyncClient(timeout=60) as client:
        response = await client.get(f"http://{found['s1']}/")
    assert response.cookies["visitor"].isalnum()
    assert "http://" not in response.text
    assert "https://" not in response.text


async def test_a_backend_says_who_it_is_and_which_node_asked() -> None:
    async with backends("s1") as found, httpx.AsyncClient(timeout=60) as client:
        headers = {"x-forwarded-host": "localhost:8081"}
        about = (await client.get(f"http://{found['s1']}/about", headers=headers)).json()
    assert (about["backend"], about["node"], about["nodes"]) == ("s1", "lb-2", NODES)


async def test_a_visitor_that_returns_finds_what_it_said() -> None:
    async with backends("s1") as found:
        async with visit(found["s1"], "abc") as visitor:
            assert (await visitor.hear("welcome"))["remembered"] == 0
            for text in ("one", "two"):
                await visitor.say(text)
                await visitor.hear("message")
        async with visit(found["s1"], "abc") as visitor:
            welcome = await visitor.hear("welcome")
        async with visit(found["s1"], "somebody") as visitor:
            assert (await visitor.hear("welcome"))["remembered"] == 0
    assert welcome["remembered"] == 2
    assert [message["text"] for message in welcome["history"]] == ["one", "two"]


async def test_everybody_here_hears_what_is_said() -> None:
    async with (
        backends("s1") as found,
        visit(found["s1"], "one") as one,
        visit(found["s1"], "two") as two,
    ):
        await two.hear("welcome")
        await one.say("hello")
        heard = await two.hear("message")
    assert (heard["who"], heard["text"]) == ("one", "hello")


async def test_a_long_text_is_cut() -> None:
    async with backends("s1") as found, visit(found["s1"], "one") as visitor:
        await visitor.say("x" * (TEXT_CHARACTERS_MAX + 1))
        assert len((await visitor.hear("message"))["text"]) == TEXT_CHARACTERS_MAX


@pytest.mark.parametrize("nonsense", ["", "{", "[]", "{}", '"text"', "3"])
async def test_nonsense_ends_the_conversation_and_not_the_backend(nonsense: str) -> None:
    async with backends("s1") as found:
        async with visit(found["s1"], "one") as visitor:
            await visitor.send(nonsense)
            with pytest.raises(ConnectionClosed):
                await visitor.hear("message")
        async with visit(found["s1"], "one") as visitor:
            await visitor.hear("welcome")


def test_history_is_bounded() -> None:
    room = Room("s1", {})
    for number in range(HISTORY_MAX + 5):
        room.say("abc", str(number))
    assert len(room.history) == HISTORY_MAX
    assert room.said == {"abc": HISTORY_MAX + 5}


def test_a_visitor_that_does_not_read_is_let_go() -> None:
    room = Room("s1", {})
    outbox, inbox = trio.open_memory_channel[dict[str, Any]](OUTBOX_MAX)
    room.outboxes.add(outbox)
    for number in range(OUTBOX_MAX):
        room.say("abc", str(number))
    assert room.outboxes == {outbox}
    room.say("abc", "one too many")
    assert room.outboxes == set()
    inbox.close()
