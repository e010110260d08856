"""Backends that speak when they were not asked: what they say is nobody's answer.

Bytes behind a response may be another response, which somebody has slipped in; whoever asks next
on that connection must not get it.
"""

import pytest
import trio

from meshlb.proxy.stream import READ_BYTES
from tests.runtime.proxy.messages import get, head, ok, post
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.wire import Wire

EVIL = ok(b"evil")
BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'


async def reused(rig: Rig) -> tuple[Wire, Wire]:
    """A client after one exchange, and the idle connection to the backend."""
    client = await rig.exchange(get(b"/first"))
    backend = await rig.accept()
    await backend.message()
    await backend.say(ok(b"first"))
    await client.message()
    await rig.settled(clients=1, idle_upstreams=1, descriptors=2)
    return client, backend


async def answered_on_another_connection(rig: Rig, client: Wire, old: Wire) -> None:
    """The one thing that may happen: the request goes elsewhere, and gets its own answer."""
    new = await rig.accept()
    await new.message()
    await new.say(ok(b"good"))
    assert (await client.message()).body == b"good"
    await client.silent()
    await old.gone()
    await rig.settled(clients=1, idle_upstreams=1, descriptors=2)


@pytest.mark.parametrize("first", ["client", "backend"])
@pytest.mark.parametrize("said", [EVIL, EVIL[:10], EVIL * 2, b"nonsense", b"\r\n"])
@pytest.mark.parametrize("request_", [get(b"/next"), post(b"next")])
async def test_what_came_before_the_request_is_not_its_answer(tmp_path, request_, said, first):
    async with scripted(tmp_path) as rig:
        client, backend = await reused(rig)
        if first == "backend":
            backend.say_now(said)
        client.say_now(request_)
        if first == "client":
            backend.say_now(said)
        await answered_on_another_connection(rig, client, backend)


async def test_what_came_while_the_cluster_decided_is_not_the_answer(tmp_path):
    async with scripted(tmp_path, sticky=BY_HEADER) as rig:
        client, backend = await reused(rig)
        rig.table.answers = trio.Event()
        await client.say(get(b"/next", b"X-Key: k"))
        await eventually(lambda: len(rig.table.claims) == 1)
        rig.table.answers.set()
        backend.say_now(EVIL)
        await answered_on_another_connection(rig, client, backend)


@pytest.mark.parametrize("cut", [0, 1, len(EVIL) - 1])
async def test_a_second_response_behind_a_full_read_is_not_for_a_pipelined_request(tmp_path, cut):
    """The first response ends where a read ends, so that the rest is still with the kernel."""
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1") + get(b"/2"))
        backend = await rig.accept()
        await backend.message()
        start = head(b"HTTP/1.1 200 OK", b"Content-Length: 65460")
        start = head(b"HTTP/1.1 200 OK", b"Content-Length: %d" % (READ_BYTES - len(start)))
        backend.say_now(start + b"x" * (READ_BYTES - len(start)) + EVIL[cut:])
        assert len((await client.message()).body) == READ_BYTES - len(start)
        await answered_on_another_connection(rig, client, backend)


async def test_a_connection_that_speaks_before_it_is_asked_answers_nobody_but_the_first(tmp_path):
    """A fresh connection is whoever opened it's; what its backend says first is its answer."""
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/first"))
        backend = await rig.accept()
        await backend.say(ok(b"early") + EVIL)
        assert (await client.message()).body == b"early"
        await client.silent()
        await backend.gone()
        await rig.settled(clients=1, descriptors=1)
