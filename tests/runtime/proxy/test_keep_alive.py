"""Connections that serve several requests, on both sides, and how they end."""

import socket

import pytest
import trio

from meshlb.proxy.client import Phase
from tests.runtime.proxy.messages import get, head, ok, ok_chunked, post
from tests.runtime.proxy.rig import scripted

LAST = b"Connection: close"


async def test_two_requests_of_one_client_share_one_connection_to_the_backend(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1"))
        backend = await rig.accept()
        assert (await backend.message()).line == b"GET /1 HTTP/1.1"
        await backend.say(ok(b"one"))
        assert (await client.message()).body == b"one"
        await client.say(get(b"/2"))
        assert (await backend.message()).line == b"GET /2 HTTP/1.1"
        await backend.say(ok(b"two"))
        assert (await client.message()).body == b"two"
        await rig.settled(clients=1, idle_upstreams=1, descriptors=2)


async def test_clients_take_turns_on_one_connection_to_the_backend(tmp_path):
    async with scripted(tmp_path) as rig:
        backend = None
        for number in range(5):
            client = await rig.exchange(get(b"/%d" % number))
            backend = backend or await rig.accept()
            assert (await backend.message()).line == b"GET /%d HTTP/1.1" % number
            await backend.say(ok())
            await client.message()
        assert rig.plane.counters.connects == 1


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1") + get(b"/2") + post(b"body", path=b"/3"))
        backend = await rig.accept()
        for number in (1, 2, 3):
            request = await backend.message()
            assert request.line.split()[1] == b"/%d" % number
            await backend.silent()
            await backend.say(ok(b"%d" % number))
        assert request.body == b"body"
        for number in (1, 2, 3):
            assert (await client.message()).body == b"%d" % number


async def test_a_request_that_comes_while_another_is_answered_waits_for_its_turn(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1"))
        backend = await rig.accept()
        await backend.message()
        await client.say(get(b"/2")[:20])
        await backend.say(ok(b"one"))
        assert (await client.message()).body == b"one"
        await client.say(get(b"/2")[20:])
        assert (await backend.message()).line == b"GET /2 HTTP/1.1"
        await backend.say(ok(b"two"))
        assert (await client.message()).body == b"two"


async def test_responses_that_are_not_read_hold_back_further_requests(tmp_path):
    body = b"x" * 60_000
    async with scripted(tmp_path) as rig:
        client = await rig.client(receive_bytes=4_096)
        backend = None
        answered = 0
        while not (rig.downstreams and rig.downstreams[0].backlog):
            await client.say(get())
            backend = backend or await rig.accept()
            await backend.message()
            await backend.say(ok(body))
            await trio.sleep(0.001)
            answered += 1
        await client.say(get())
        await backend.silent()
        assert len(rig.downstreams[0].backlog) <= len(body) + 1_000
        for _ in range(answered):
            assert (await client.message()).body == body
        assert (await backend.message()).line == b"GET / HTTP/1.1"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_connection_close_of_the_client_ends_its_connection_and_not_the_backends(
    tmp_path, version
):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/", b"Connection: close", version=version) + get())
        backend = await rig.accept()
        request = await backend.message()
        assert request.line == b"GET / HTTP/1.1"
        assert "connection" not in request
        await backend.say(ok(b"bye"))
        response = await client.message()
        assert (response.body, response["connection"]) == (b"bye", b"close")
        await client.ended()
        await backend.silent()
        await client.close()
        await rig.settled(idle_upstreams=1, descriptors=1)


async def test_a_client_that_has_said_all_is_let_go_with_its_last_byte(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/", b"Connection: close"))
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok(b"bye"))
        assert (await client.message()).body == b"bye"
        await client.ended()
        assert not rig.downstreams


@pytest.mark.parametrize("request_", [get(b"/", LAST), post(b"body", LAST)])
async def test_a_client_that_ends_its_side_late_gets_the_rest_of_its_last_response(
    tmp_path, request_
):
    body = b"x" * 100_000
    async with scripted(tmp_path) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(request_)
        backend = await rig.accept()
        await backend.message()
        (downstream,) = rig.downstreams
        downstream.plain_sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        rig.nursery.start_soon(backend.say, ok(body))
        heard = (await client.head()).body
        while downstream.phase is not Phase.LINGER:
            heard += await client.some(4_096)
        assert downstream.backlog
        await client.fin()
        heard += await client.rest()
        assert heard == body


async def test_connection_close_of_the_backend_ends_its_connection_and_not_the_clients(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1"))
        first = await rig.accept()
        await first.message()
        await first.say(ok(b"one", b"Connection: close"))
        response = await client.message()
        assert "connection" not in response
        await first.ended()
        await client.say(get(b"/2"))
        second = await rig.accept()
        await second.message()
        await second.say(ok(b"two"))
        assert (await client.message()).body == b"two"


async def test_an_http10_client_gets_one_response_and_the_end(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(b"GET / HTTP/1.0\r\n\r\n")
        backend = await rig.accept()
        request = await backend.message()
        assert (request.line, request["host"]) == (b"GET / HTTP/1.1", b"")
        await backend.say(ok(b"old"))
        response = await client.message()
        assert (response["connection"], response.body) == (b"close", b"old")
        await client.ended()


async def test_an_http10_client_with_keep_alive_keeps_its_connection(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        backend = None
        for number in (b"1", b"2"):
            await client.say(get(b"/" + number, b"Connection: keep-alive", version=b"1.0"))
            backend = backend or await rig.accept()
            await backend.message()
            await backend.say(ok(number))
            response = await client.message()
            assert (response["connection"], response.body) == (b"keep-alive", number)


async def test_an_http10_client_gets_a_chunked_body_decoded_and_ended_by_the_connection(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/", b"Connection: keep-alive", version=b"1.0"))
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok_chunked(b"hello, ", b"world", trailers=(b"X-Sum: 12",)))
        response = await client.message()
        assert response.body == b"hello, world"
        assert "transfer-encoding" not in response
        assert response["connection"] == b"close"
        assert len(rig.backend().idle) == 1


async def test_a_field_that_looks_like_the_framing_is_kept_for_an_http10_client(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(version=b"1.0"))
        backend = await rig.accept()
        await backend.message()
        await backend.say(
            head(
                b"HTTP/1.1 200 OK",
                b"X-Note: Transfer-Encoding: chunked",
                b"X-Next: 1",
                b"Transfer-Encoding: chunked",
            )
            + b"1\r\nx\r\n0\r\n\r\n"
        )
        response = await client.message()
        assert response["x-note"] == b"Transfer-Encoding: chunked"
        assert response["x-next"] == b"1"
        assert response.body == b"x"


async def test_an_http10_client_is_told_of_no_chunks_after_head_either(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(head(b"HEAD / HTTP/1.0", b"Host: shop"))
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"))
        assert "transfer-encoding" not in await client.message(bodiless=True)


async def test_a_response_without_a_stated_end_ends_with_the_connection(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(b"HTTP/1.0 200 OK\r\n\r\n", b"all ", b"of it")
        await backend.close()
        response = await client.message()
        assert (response.body, response["connection"]) == (b"all of it", b"close")


async def test_bytes_behind_a_response_are_nobodys_and_cost_the_connection(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        for message in (ok(b"good"), ok_chunked(b"good"), head(b"HTTP/1.1 204 No Content")):
            await client.say(get())
            backend = await rig.accept()
            await backend.message()
            await backend.say(message + ok(b"evil"))
            response = await client.message()
            assert response.body in (b"good", b"")
            await backend.gone()
            await client.silent()


async def test_a_backend_that_speaks_out_of_turn_loses_its_connection(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1"))
        first = await rig.accept()
        await first.message()
        await first.say(ok(b"one"))
        await client.message()
        await rig.settled(clients=1, idle_upstreams=1, descriptors=2)
        await first.say(ok(b"nobody asked"))
        await first.gone()
        await client.say(get(b"/2"))
        second = await rig.accept()
        await second.message()
        await second.say(ok(b"two"))
        assert (await client.message()).body == b"two"


async def test_a_client_that_has_sent_its_fin_still_gets_all_responses(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get(b"/1") + get(b"/2"))
        await client.fin()
        backend = await rig.accept()
        for number in (b"1", b"2"):
            assert (await backend.message()).line == b"GET /%b HTTP/1.1" % number
            await backend.say(ok(number))
        assert [(await client.message()).body for _ in range(2)] == [b"1", b"2"]
        await client.ended()
        await rig.settled(idle_upstreams=1, descriptors=1)


async def test_a_client_that_leaves_between_requests_leaves_nothing_behind(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.client()
        await rig.settled(clients=1, descriptors=1)
        await client.close()
        await rig.settled()


async def test_an_idle_connection_that_the_backend_closes_is_forgotten(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok())
        await client.message()
        await backend.close()
        await rig.settled(clients=1, descriptors=1)
