"""What makes no progress is cut, what makes some is not. No test here asserts how long it took."""

import trio
import trio.testing

from tests.runtime.proxy.messages import get, head, ok, post
from tests.runtime.proxy.rig import eventually, scripted

SHORT_HEAD = 'timeouts = { head = "150ms", idle = "30s" }'
SHORT_IDLE = 'timeouts = { head = "30s", idle = "200ms" }'
BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'


async def test_a_head_that_comes_too_slowly_gets_408(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_HEAD) as rig:
        client = await rig.client()
        for byte in get():
            if client.has_news():
                break
            await client.say(bytes((byte,)))
            await trio.sleep(0.02)
        answer = await client.message()
        assert (answer.status, answer["connection"]) == (408, b"close")
        await client.ended()


async def test_the_time_for_a_head_begins_with_its_first_byte(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_HEAD) as rig:
        client = await rig.client()
        await client.silent(0.4)
        rig.record()
        for _ in range(2):
            await client.say(get())
            assert (await client.message()).status == 200
            await client.silent(0.4)


async def test_a_slow_head_in_the_pipeline_is_cut_after_the_response_before_it(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_HEAD) as rig:
        client = await rig.exchange(get() + b"GET / HT")
        backend = await rig.accept()
        await backend.message()
        await client.silent(0.4)
        await backend.say(ok(b"fine"))
        assert (await client.message()).body == b"fine"
        assert (await client.message()).status == 408
        await client.ended()


async def test_an_idle_client_is_sent_away_without_a_word(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_IDLE) as rig:
        fresh = await rig.client()
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok())
        await client.message()
        await client.ended()
        await fresh.ended()
        await rig.settled(idle_upstreams=1, descriptors=1)


async def test_a_stalled_upload_gets_408(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_IDLE) as rig:
        client = await rig.exchange(head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 9"))
        await client.say(b"abc")
        backend = await rig.accept()
        await backend.head()
        answer = await client.message()
        assert (answer.status, answer["connection"]) == (408, b"close")
        await client.ended()
        await backend.gone()


async def test_an_upload_that_the_backend_does_not_take_gets_504(tmp_path, unhurried):
    start = head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 100000000")
    upload = start + b"x" * 100_000_000  # Made first: it takes longer than a client may be idle.
    async with scripted(tmp_path, listener=SHORT_IDLE) as rig:
        client = await rig.client()
        rig.nursery.start_soon(client.say_in_vain, upload)
        backend = await rig.accept()
        await backend.head()
        answer = await client.message()
        assert (answer.status, answer["connection"]) == (504, b"close")


async def test_a_slow_upload_that_makes_progress_is_not_cut(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_IDLE, pool='response_timeout = "150ms"') as rig:
        body = b"0123456789"
        client = await rig.client()
        await client.say(head(b"POST / HTTP/1.1", b"Host: shop", b"Content-Length: 10"))
        backend = await rig.accept()
        for byte in body:
            await client.say(bytes((byte,)))
            await trio.sleep(0.06)
        assert (await backend.message()).body == body
        await backend.say(ok(b"stored"))
        assert (await client.message()).body == b"stored"


async def test_a_download_that_nobody_reads_is_cut_with_a_reset(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_IDLE) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say_in_vain(ok(b"x" * 100_000_000))
        await rig.settled()
        await client.broken()


async def test_the_end_of_a_download_that_nobody_reads_is_cut_too(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_IDLE) as rig:
        client = await rig.client(receive_bytes=4_096)
        await client.say(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK"))
        sent = 0
        while not rig.downstreams[0].backlog:
            sent += await backend.stream.socket.send(b"x" * 10_000)
            await trio.testing.wait_all_tasks_blocked()
        await backend.close()
        await rig.settled()


async def test_a_download_that_stalls_at_the_backend_is_cut_with_a_reset(tmp_path, unhurried):
    async with scripted(tmp_path, listener=SHORT_IDLE) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok(b"whole")[:-2])
        await client.until(b"who")
        await client.broken()
        await backend.gone()


async def test_a_slow_download_that_makes_progress_is_not_cut(tmp_path, unhurried):
    body = b"x" * 1_500_000
    async with scripted(tmp_path, listener=SHORT_IDLE) as rig:
        for fields in ((), (b"Connection: close",)):
            client = await rig.client(receive_bytes=65_536)
            await client.say(get(b"/", *fields))
            backend = await rig.accept()
            await backend.message()
            rig.nursery.start_soon(backend.say_in_vain, ok(body, b"Connection: close"))
            await client.head()
            left = len(body)
            while left:
                left -= len(await client.some(80_000))
                await trio.sleep(0.02)
            if fields:
                await client.ended()


async def test_a_backend_gets_the_whole_response_time_after_a_slow_decision(tmp_path, unhurried):
    async with scripted(tmp_path, sticky=BY_HEADER, pool='response_timeout = "400ms"') as rig:
        rig.table.answers = trio.Event()
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        await trio.sleep(0.35)
        rig.table.answers.set()
        backend = await rig.accept()
        await backend.message()
        await trio.sleep(0.25)
        await backend.say(ok(b"in time"))
        assert (await client.message()).body == b"in time"


async def test_a_response_that_takes_longer_than_its_ttl_keeps_its_pin_alive(tmp_path, unhurried):
    async with scripted(tmp_path, sticky=BY_HEADER + '\nttl = "1s"') as rig:
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        backend = await rig.accept()
        await backend.message()
        await backend.say(head(b"HTTP/1.1 200 OK"))
        for _ in range(5):
            await trio.sleep(0.3)
            await backend.say(b"event")
        (pin,) = rig.table.pins.values()
        assert pin.is_live(rig.table.now())
        assert (await client.head()).status == 200


async def test_a_backend_gets_the_whole_response_time_after_a_slow_upload(tmp_path, unhurried):
    async with scripted(tmp_path, pool='response_timeout = "400ms"') as rig:
        message = post(b"body")
        client = await rig.exchange(message[:-1])
        backend = await rig.accept()
        await trio.sleep(0.35)
        await client.say(message[-1:])
        await backend.message()
        await trio.sleep(0.25)
        await backend.say(ok(b"in time"))
        assert (await client.message()).body == b"in time"


async def test_a_refused_client_that_stays_is_sent_away(tmp_path, unhurried):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(b"nonsense\r\n\r\n")
        assert (await client.message()).status == 400
        await client.ended()
        await rig.settled()


async def test_an_expectation_that_the_backend_never_meets_is_the_backends_fault(
    tmp_path, unhurried
):
    async with scripted(tmp_path, pool='response_timeout = "100ms"') as rig:
        client = await rig.exchange(post(b"", b"Expect: 100-continue").replace(b": 0", b": 5"))
        backend = await rig.accept()
        await backend.head()
        assert (await client.message()).status == 504


async def test_a_silent_tunnel_is_closed(tmp_path, unhurried):
    async with scripted(
        tmp_path, protocol="tcp", listener='timeouts = { tunnel_idle = "1s" }'
    ) as rig:
        await rig.origins["s1"].skip_probes()
        client = await rig.client()
        backend = await rig.accept(talks=False)
        await eventually(lambda: len(rig.plane.tunnels) == 1)
        await client.ended()
        await backend.ended()
        await rig.settled()


async def test_a_tunnel_that_is_used_now_and_then_stays(tmp_path, unhurried):
    async with scripted(
        tmp_path, protocol="tcp", listener='timeouts = { tunnel_idle = "1s" }'
    ) as rig:
        await rig.origins["s1"].skip_probes()
        client = await rig.client()
        backend = await rig.accept(talks=False)
        for _ in range(4):
            await trio.sleep(0.4)
            await client.say(b"ping")
            await backend.hear(b"ping")
