"""Health probes: what counts as well, and what the proxy makes of it."""

import random

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from meshlb.config.schema import HealthSettings
from meshlb.model import BackendState
from meshlb.proxy.prober import probe
from tests.runtime.proxy.messages import get, head, ok, ok_chunked
from tests.runtime.proxy.rig import Rig, eventually, scripted

HTTP = HealthSettings.model_validate({"path": "/healthz", "timeout": "1m"})
HURRIED = HTTP.model_validate({"path": "/healthz", "timeout": "300ms"})
QUICK = 'interval = "50ms"\ntimeout = "200ms"\nrise = 2\nfall = 3'


async def probed(
    rig: Rig, answer: bytes, settings: HealthSettings = HTTP
) -> tuple[str | None, bytes]:
    """What a probe says of a backend that gives `answer`, and the request it heard."""
    said: list[str | None] = []

    async def ask() -> None:
        async with httpx.AsyncHTTPTransport(verify=False) as transport:
            said.append(await probe(rig.backend(), settings, transport))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        backend = await rig.accept()
        request = await backend.head()
        await backend.say_in_vain(answer)
        await backend.remains()
        await backend.close()
    return said[0], request.raw


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"well"),
        ok_chunked(b"well"),
        head(b"HTTP/1.1 204 No Content"),
        head(b"HTTP/1.1 302 Found", b"Location: http://192.0.2.1/"),
        head(b"HTTP/1.1 399 Fine", b"Content-Length: 1000000000") + b"x" * 100_000,
    ],
)
async def test_any_answer_from_200_to_399_is_good(tmp_path, answer):
    async with scripted(tmp_path) as rig:
        said, request = await probed(rig, answer)
        assert said == ""
        assert request.startswith(b"GET /healthz HTTP/1.1\r\n")
        assert b"\r\nHost: 127.0.0.1:" in request


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (head(b"HTTP/1.1 503 Busy", b"Content-Length: 0"), "answered 503"),
        (head(b"HTTP/1.1 404 Not Found", b"Content-Length: 0"), "answered 404"),
        (b"", "no answer within 0.3 s"),
        (b"HTTP/1.1 200", "no answer within 0.3 s"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
        (b"HTTP/1.1 99999 Odd\r\n\r\n", ""),
        (b"\xff" * 70_000, ""),
    ],
)
async def test_any_other_answer_is_bad_and_has_a_reason(tmp_path, answer, reason, unhurried):
    async with scripted(tmp_path) as rig:
        said, _ = await probed(rig, answer, HURRIED)
        assert said
        assert reason in said


async def test_random_answers_are_bad_and_end_nothing(tmp_path, unhurried):
    rng = random.Random(3)
    async with scripted(tmp_path) as rig:
        for start in (b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-"):
            for _ in range(5):
                said, _ = await probed(rig, start + rng.randbytes(200) + b"\r\n\r\n", HURRIED)
                assert said


async def test_a_probe_sends_no_cookie_that_an_earlier_one_got(tmp_path):
    async with scripted(tmp_path) as rig, httpx.AsyncHTTPTransport(verify=False) as transport:
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(probe, rig.backend(), HTTP, transport)
                backend = await rig.accept()
                assert "cookie" not in await backend.head()
                await backend.say(ok(b"", b"Set-Cookie: session=1; Path=/"))


async def test_a_backend_that_is_dead_at_the_start_is_down_before_the_first_client(tmp_path):
    async with scripted(tmp_path, "s1", "s2", health=QUICK, pool='balance = "round-robin"') as rig:
        rig.origins["s1"].close()
        await eventually(lambda: rig.backend("s1").state is BackendState.DOWN)
        for _ in range(3):
            client = await rig.exchange(get(b"/", b"Connection: close"))
            backend = await rig.accept("s2")
            await backend.message()
            await backend.say(ok(b"", b"Connection: close"))
            assert (await client.message()).status == 200
        assert rig.plane.counters.redispatches == 0
        assert "refused" in rig.backend("s1").reason


async def test_clients_are_refused_before_the_listener_may_listen(tmp_path):
    async with scripted(tmp_path, may_listen=False) as rig:
        with pytest.raises(OSError, match="refused"):
            await rig.client()
        rig.may_listen.set()
        await rig.plane.accepting.wait()
        await rig.client()


async def test_a_failed_connection_brings_the_next_probe_forward(tmp_path):
    health = 'interval = "10m"\ntimeout = "50ms"\nfall = 1'
    async with scripted(tmp_path, health=health) as rig:
        rig.origins["s1"].close()
        with capture_logs():
            client = await rig.exchange(get())
            assert (await client.message()).status == 502
            await eventually(lambda: rig.backend().state is BackendState.DOWN)
            client = await rig.exchange(get())
            assert (await client.message()).status == 503


async def test_a_backend_that_dies_and_returns_is_down_and_up_again(tmp_path):
    async with scripted(tmp_path, health=QUICK) as rig:
        with capture_logs() as logs:
            rig.origins["s1"].close()
            await eventually(lambda: rig.backend().state is BackendState.DOWN)
            assert "refused" in rig.backend().reason
            rig.origins["s1"].open()
            await eventually(lambda: rig.backend().state is BackendState.UP)
        assert [line["event"] for line in logs] == ["backend is down", "backend is up"]
        assert rig.backend().reason == ""
