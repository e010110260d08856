"""What a client gets when its backend refuses, breaks off, speaks nonsense or stays silent."""

import pytest
import trio

from meshlb.model import BackendState
from tests.runtime.proxy.messages import chunked, get, head, ok, ok_chunked, post, post_chunked
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.wire import Message, Wire

BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'


async def answered(rig: Rig, request: bytes, *responses: bytes) -> tuple[Wire, Wire]:
    """A new client whose `request` is at the backend, which has said `responses`."""
    client = await rig.exchange(request)
    backend = await rig.accept()
    await backend.message()
    await backend.say(*responses)
    return client, backend


async def reused(rig: Rig) -> tuple[Wire, Wire]:
    """A client after one exchange, and the idle connection to the backend."""
    client, backend = await answered(rig, get(b"/first"), ok())
    await client.message()
    await rig.settled(clients=1, idle_upstreams=1, descriptors=2)
    return client, backend


def is_own_answer(answer: Message, status: int) -> bool:
    return (
        answer.status == status
        and answer["server"] == b"meshlb"
        and answer["connection"] == b"close"
        and answer.body.startswith(b"%d " % status)
    )


@pytest.mark.parametrize(
    "response",
    [
        head(b"HTTP/1.1 200 OK", b"Content-Length: 100") + b"part",
        head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked") + b"4\r\npart\r\n",
        head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked") + b"4\r\npart\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_truncated_response_is_passed_on_as_truncated(tmp_path, response, how):
    async with scripted(tmp_path) as rig:
        client, backend = await answered(rig, get(), response)
        await client.hear(response)
        if how == "closes":
            await backend.close()
        else:
            backend.reset()
        await client.ended()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_reset_within_a_body_without_a_stated_end_is_a_reset_for_the_client(
    tmp_path, version
):
    async with scripted(tmp_path) as rig:
        start = head(b"HTTP/1.1 200 OK")
        client, backend = await answered(rig, get(version=version), start + b"part")
        await client.until(b"part")
        backend.reset()
        assert await client.broken() == b""


async def test_a_truncated_chunked_body_is_a_reset_for_an_http10_client(tmp_path):
    async with scripted(tmp_path) as rig:
        truncated = ok_chunked(b"part").removesuffix(chunked())
        client, backend = await answered(rig, get(version=b"1.0"), truncated)
        await client.until(b"part")
        await backend.close()
        assert await client.broken() == b""


async def test_nonsense_within_a_chunked_body_ends_the_response(tmp_path):
    async with scripted(tmp_path) as rig:
        start = head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked") + b"4\r\npart\r\n"
        client, backend = await answered(rig, get(), start)
        await client.hear(start)
        await backend.say(b"zz\r\n" + ok(b"evil"))
        await client.ended()
        await backend.gone()


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        head(b"HTTP/1.1 200 OK", b"Content-Length: 1", b"Content-Length: 2"),
        head(b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip, chunked"),
        head(b"HTTP/1.1 200 OK", b"Bad Name: x"),
        head(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: upgrade"),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_what_is_no_response_becomes_502(tmp_path, response, how):
    async with scripted(tmp_path) as rig:
        client, backend = await answered(rig, post(b"body"), response)
        if how == "closes":
            await backend.fin()
        else:
            backend.reset()
        assert is_own_answer(await client.message(), 502)
        await client.ended()
        await rig.origins["s1"].nobody()


async def test_an_endless_response_head_becomes_502(tmp_path):
    async with scripted(tmp_path) as rig:
        client, backend = await answered(rig, get())
        with pytest.raises(trio.BrokenResourceError):
            await backend.say(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 20_000_000)
        assert is_own_answer(await client.message(), 502)


async def test_a_silent_backend_becomes_504(tmp_path):
    async with scripted(tmp_path, pool='response_timeout = "100ms"') as rig:
        client, backend = await answered(rig, get())
        assert is_own_answer(await client.message(), 504)
        await backend.gone()


async def test_a_backend_that_answers_in_time_may_take_longer_for_the_body(tmp_path, unhurried):
    async with scripted(tmp_path, pool='response_timeout = "100ms"') as rig:
        response = ok(b"slowly")
        client, backend = await answered(rig, get(), response[:-5])
        await client.exactly(len(response) - 5)
        await client.silent(0.3)
        await backend.say(response[-5:])
        await client.hear(b"lowly")


async def test_a_refused_connection_is_tried_elsewhere(tmp_path):
    async with scripted(tmp_path, "s1", "s2") as rig:
        rig.origins["s1"].close()
        for _ in range(2):
            client = await rig.exchange(post(b"body", b"Connection: close"))
            backend = await rig.accept("s2")
            assert (await backend.message()).body == b"body"
            await backend.say(ok(b"", b"Connection: close"))
            assert (await client.message()).status == 200
        assert rig.plane.counters.redispatches == 1


async def test_a_pinned_key_moves_by_a_claim_when_its_backend_refuses(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        first = await rig.accept("s1")
        await first.message()
        await first.say(ok())
        await client.message()
        rig.origins["s1"].close()
        await rig.settled(clients=1, descriptors=1)
        for _ in range(2):
            await client.say(get(b"/", b"X-Key: k", b"Connection: keep-alive"))
            backend = rig.origins["s2"].wires[-1] if rig.origins["s2"].wires else None
            backend = backend or await rig.accept("s2")
            await backend.message()
            await backend.say(ok())
            assert (await client.message()).status == 200
        created, moved = rig.table.claims
        assert (created.backend, created.moved_from) == ("s1", "")
        assert (moved.backend, moved.moved_from, moved.moved_from_epoch) == ("s2", "s1", 0)


async def test_when_all_refuse_the_client_gets_502_once_and_later_service_again(tmp_path):
    async with scripted(tmp_path, "s1", "s2") as rig:
        for origin in rig.origins.values():
            origin.close()
        client = await rig.exchange(get())
        assert is_own_answer(await client.message(), 502)
        await client.ended()


@pytest.mark.parametrize("sticky", ["", BY_HEADER, '[[pool.app.sticky]]\nby = "cookie"'])
async def test_no_backend_at_all_becomes_503_with_retry_after(tmp_path, sticky):
    async with scripted(tmp_path, sticky=sticky) as rig:
        rig.backend().order(BackendState.MAINTENANCE)
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        answer = await client.message()
        assert is_own_answer(answer, 503)
        assert int(answer["retry-after"]) > 0
        await client.ended()


@pytest.mark.parametrize("sticky", [BY_HEADER, '[[pool.app.sticky]]\nby = "cookie"'])
async def test_a_new_session_that_a_minority_may_not_begin_gets_503_with_retry_after(
    tmp_path, sticky
):
    async with scripted(tmp_path, sticky=sticky) as rig:
        rig.table.refuses = True
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        answer = await client.message()
        assert is_own_answer(answer, 503)
        assert int(answer["retry-after"]) > 0
        await client.ended()
        assert not rig.origins["s1"].wires


@pytest.mark.parametrize("sticky", [BY_HEADER, '[[pool.app.sticky]]\nby = "cookie"'])
async def test_an_existing_session_goes_on_where_no_new_one_may_begin(tmp_path, sticky):
    async with scripted(tmp_path, sticky=sticky) as rig:
        client, backend = await answered(rig, get(b"/", b"X-Key: k"), ok())
        fields = dict((await client.message()).fields)
        cookie = fields.get(b"set-cookie", b"").split(b";")[0]
        rig.table.refuses = True
        for forget in (False, True):
            if forget and cookie:  # the client brings back what the table has lost
                rig.table.pins.clear()
            await client.say(get(b"/", b"X-Key: k", b"Cookie: " + cookie))
            await backend.message()
            await backend.say(ok())
            assert (await client.message()).status == 200


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
async def test_a_repeatable_request_survives_that_the_backend_closed_a_reused_connection(
    tmp_path, method
):
    async with scripted(tmp_path) as rig:
        client, first = await reused(rig)
        await client.say(head(method + b" /again HTTP/1.1", b"Host: shop"))
        await first.message()
        await first.close()
        second = await rig.accept()
        assert (await second.message()).line == method + b" /again HTTP/1.1"
        await second.say(ok())
        response = await client.message()
        assert response.status == 200
        assert "connection" not in response
        assert rig.plane.counters.retries == 1


async def test_a_retry_after_a_failed_write_keeps_the_clients_connection(tmp_path):
    async with scripted(tmp_path) as rig:
        client, first = await reused(rig)
        client.say_now(get(b"/again"))
        first.reset()
        second = await rig.accept()
        await second.message()
        await second.say(ok())
        assert "connection" not in await client.message()


async def test_a_request_is_not_repeated_twice(tmp_path):
    async with scripted(tmp_path) as rig:
        client, first = await reused(rig)
        await client.say(get(b"/again"))
        await first.message()
        await first.close()
        second = await rig.accept()
        await second.message()
        await second.close()
        assert is_own_answer(await client.message(), 502)
        await rig.origins["s1"].nobody()


@pytest.mark.parametrize("response", [b"HTTP/1.1 200 O", b"nonsense\r\n\r\n"])
async def test_a_request_that_got_a_part_of_an_answer_is_not_repeated(tmp_path, response):
    async with scripted(tmp_path) as rig:
        client, first = await reused(rig)
        await client.say(get(b"/again"))
        await first.message()
        await first.say(response)
        await first.close()
        assert is_own_answer(await client.message(), 502)
        await rig.origins["s1"].nobody()


async def test_a_post_whose_reused_connection_breaks_is_not_repeated(tmp_path):
    async with scripted(tmp_path) as rig:
        client, first = await reused(rig)
        await client.say(post(b"order"))
        await first.message()
        await first.close()
        assert is_own_answer(await client.message(), 502)
        await rig.origins["s1"].nobody()


@pytest.mark.parametrize(
    "request_",
    [
        post(b"order"),
        post_chunked(b"order"),
        post(b"order").replace(b"POST", b"PUT"),
        post_chunked(b"x").replace(b"POST", b"DELETE"),
    ],
)
async def test_what_cannot_be_repeated_does_not_go_to_a_connection_known_to_be_closed(
    tmp_path, request_
):
    async with scripted(tmp_path) as rig:
        client, first = await reused(rig)
        client.say_now(request_)
        first.close_now()
        second = await rig.accept()
        await second.message()
        await second.say(ok(b"done"))
        assert (await client.message()).body == b"done"


async def test_a_backend_that_closes_while_it_is_sent_to_may_still_answer(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        await client.say(head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 50000000"))
        backend = await rig.accept()
        await backend.head()
        await backend.say(head(b"HTTP/1.1 403 Forbidden", b"Content-Length: 3") + b"no!")
        await backend.close()
        response = await client.message()
        assert (response.status, response.body) == (403, b"no!")
        await client.ended()


async def test_a_failure_of_one_exchange_leaves_the_others_alone(tmp_path):
    async with scripted(tmp_path) as rig:
        pairs = [await answered(rig, get(b"/%d" % n)) for n in range(6)]
        for client, backend in pairs[::2]:
            backend.reset()
            assert is_own_answer(await client.message(), 502)
        for client, backend in pairs[1::2]:
            await backend.say(ok(b"fine"))
            assert (await client.message()).body == b"fine"
        await eventually(lambda: rig.backend().connections == 0)
        assert len(rig.backend().idle) == 3
