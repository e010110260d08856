"""Clients that leave in every phase: nothing of theirs stays behind in the proxy."""

import gc
import socket

import pytest
import trio

from meshlb.proxy.downstream import Downstream
from tests.runtime.proxy.messages import chunked, get, head, ok, ok_chunked, post
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.wire import Wire

BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'
UPLOAD = head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 1000")
LEAVE = ["closes", "resets"]


def leave(client: Wire, how: str) -> None:
    if how == "closes":
        client.close_now()
    else:
        client.reset()


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("said", [b"", b"GE", get()[:-2]])
async def test_a_client_that_leaves_within_the_head_leaves_nothing_behind(tmp_path, how, said):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(said)
        await rig.settled(clients=1, descriptors=1)
        leave(client, how)
        await rig.settled()


async def test_nothing_of_a_client_that_has_left_waits_for_its_time_outs(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok())
        await client.message()
        client.close_now()
        await eventually(lambda: rig.tally.connections == 0)
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Downstream]


@pytest.mark.parametrize("how", LEAVE)
async def test_a_client_that_leaves_while_its_key_is_claimed_leaves_nothing_behind(tmp_path, how):
    async with scripted(tmp_path, sticky=BY_HEADER) as rig:
        rig.table.answers = trio.Event()
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        await eventually(lambda: bool(rig.table.claims))
        leave(client, how)
        if how == "closes":  # It may have closed one direction only, so it is still served.
            rig.table.answers.set()
            backend = await rig.accept()
            await backend.message()
            await backend.say(ok())
            await rig.settled(idle_upstreams=1, descriptors=1)
        else:
            await rig.settled()
            await rig.origins["s1"].nobody()


async def test_a_client_that_leaves_before_its_task_runs_leaves_nothing_behind(tmp_path):
    async with scripted(tmp_path, sticky=BY_HEADER) as rig:
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        client.reset()
        await eventually(lambda: rig.tally.accepted == 1)
        await eventually(lambda: rig.tally.connections == 0)
        for upstream in list(rig.backend().idle):
            upstream.backend.close_idle()
        await rig.settled()


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("body", [b"", b"x" * 400])
async def test_a_client_that_leaves_within_its_upload_leaves_nothing_behind(tmp_path, how, body):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(UPLOAD + body)
        backend = await rig.accept()
        await backend.head()
        await backend.exactly(len(body))
        leave(client, how)
        await backend.gone()
        await rig.settled()


@pytest.mark.parametrize("how", LEAVE)
async def test_a_client_that_leaves_a_stalled_upload_leaves_nothing_behind(tmp_path, how):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(UPLOAD.replace(b"1000", b"100000000"))
        backend = await rig.accept()
        await backend.head()
        rig.nursery.start_soon(client.say_in_vain, b"x" * 100_000_000)
        await eventually(lambda: bool(rig.downstreams[0]._upstream.backlog))
        leave(client, how)
        await backend.gone()
        await rig.settled()


async def test_a_client_that_resets_while_it_waits_leaves_nothing_behind(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        client.reset()
        await backend.gone()
        await rig.settled()


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("frame", ["length", "chunked", "close"])
async def test_a_client_that_leaves_within_its_download_leaves_nothing_behind(tmp_path, how, frame):
    starts = {
        "length": head(b"HTTP/1.1 200 OK", b"Content-Length: 100000000"),
        "chunked": ok_chunked().removesuffix(chunked()) + b"fffffff\r\n",
        "close": head(b"HTTP/1.1 200 OK"),
    }
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(starts[frame])
        await client.head()
        leave(client, how)
        with pytest.raises(trio.BrokenResourceError):
            await backend.say(*[b"x" * 100_000] * 500)
        await rig.settled()


@pytest.mark.parametrize("how", LEAVE)
async def test_a_client_that_leaves_a_full_download_leaves_nothing_behind(tmp_path, how):
    async with scripted(tmp_path) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK", b"Content-Length: 100000000"))
        rig.nursery.start_soon(backend.say_in_vain, b"x" * 100_000_000)
        await eventually(lambda: bool(rig.downstreams[0].backlog))
        leave(client, how)
        await backend.gone()
        await rig.settled()


async def test_a_client_that_is_gone_when_its_last_bytes_are_written_is_counted_once(tmp_path):
    async with scripted(tmp_path) as rig:
        for response in (ok(), ok(b"body"), ok_chunked(b"body")):
            client = await rig.exchange(get())
            backend = await rig.accept()
            await backend.message()
            backend.say_now(response)
            client.reset()
            await eventually(lambda: rig.tally.connections == 0)
            await backend.gone()
            await rig.settled()


async def test_a_client_that_is_gone_when_nonsense_comes_is_counted_once(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        backend.say_now(b"nonsense\r\n\r\n")
        client.reset()
        await rig.settled()


@pytest.mark.parametrize("how", LEAVE)
async def test_a_client_that_leaves_while_we_wait_for_it_to_read_leaves_nothing_behind(
    tmp_path, how
):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(b"nonsense\r\n\r\n")
        await client.message()
        leave(client, how)
        await rig.settled()


async def test_a_half_closed_client_gets_its_download_to_the_end(tmp_path):
    body = bytes(range(256)) * 8_000
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(post(b"all of it"))
        await client.fin()
        backend = await rig.accept()
        assert (await backend.message()).body == b"all of it"
        rig.nursery.start_soon(backend.say, ok(body))
        assert (await client.message()).body == body
        await client.ended()
        await rig.settled(idle_upstreams=1, descriptors=1)


async def test_a_half_closed_client_in_the_middle_of_its_upload_is_gone(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(UPLOAD)
        backend = await rig.accept()
        await backend.head()
        await client.fin()
        await backend.gone()
        await client.gone()


async def test_many_clients_that_come_and_go_leave_nothing_behind(tmp_path):
    async with scripted(tmp_path, sticky='[[pool.app.sticky]]\nby = "cookie"') as rig:
        recorder = rig.record()
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(_come_and_go, rig, number)
        await eventually(lambda: rig.tally.connections == 0)
        assert recorder.requests
        assert rig.backend().connections == 0


async def _come_and_go(rig: Rig, number: int) -> None:
    client = await rig.exchange(get(b"/%d" % number) * (number % 3))
    if number % 5:
        await trio.sleep(0.001 * (number % 7))
    else:
        await client.stream.socket.send(b"GET / HT")
    if number % 2:
        client.reset()
    else:
        client.stream.socket.shutdown(socket.SHUT_WR)
        await client.gone()
        client.close_now()
