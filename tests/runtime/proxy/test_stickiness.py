"""Which backend gets a request: cookies, headers and addresses, and what moves a session."""

import time
from dataclasses import replace

import pytest

from meshlb.core.sticky.cookie import CookieSealer, LbCookie
from meshlb.model import BackendName, BackendState, PoolName, SessionKey
from tests.runtime.proxy.messages import get, head, ok
from tests.runtime.proxy.rig import COOKIE_SECRET, Rig, scripted
from tests.runtime.proxy.wire import Message

BY_COOKIE = '[[pool.app.sticky]]\nby = "cookie"\nttl = "20m"'
BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'
BY_ADDRESS = '[[pool.app.sticky]]\nby = "source-ip"'
KEY = SessionKey(b"0123456789abcdef")


async def served(rig: Rig, name: str, *fields: bytes) -> tuple[Message, Message]:
    """A client's request goes to the backend `name`; what that one heard, and the response."""
    client = await rig.exchange(get(b"/", *fields, b"Connection: close"))
    backend = await rig.accept(name)
    request = await backend.message()
    await backend.say(ok(name.encode(), b"Connection: close"))
    response = await client.message()
    assert response.body == name.encode()
    await client.ended()
    return request, response


def with_cookie(cookie: bytes) -> bytes:
    return b"Cookie: " + cookie


def sealed(
    *,
    backend: str = "s2",
    secret: bytes = COOKIE_SECRET,
    key: SessionKey = KEY,
    epoch: int = 0,
    made_s_ago: float = 0,
    used_s_ago: float = 0,
    pool: str = "app",
) -> bytes:
    """`MESHLB=` and what a node that knows `secret` would have sealed."""
    sealer = CookieSealer([secret], pool=PoolName(pool), name="MESHLB")
    now = time.time()
    cookie = LbCookie(
        key=key,
        backend=BackendName(backend),
        epoch=epoch,
        made_at=now - made_s_ago,
        refreshed_at=now - used_s_ago,
    )
    return b"MESHLB=" + sealer.seal(cookie, bytes(12))


def opened(cookie: bytes) -> LbCookie:
    sealer = CookieSealer([COOKIE_SECRET], pool=PoolName("app"), name="MESHLB")
    return sealer.open(cookie.removeprefix(b"MESHLB="))


async def test_a_new_client_gets_a_cookie_that_brings_it_back(tmp_path):
    async with scripted(tmp_path, "s1", "s2", "s3", sticky=BY_COOKIE) as rig:
        _, response = await served(rig, "s1")
        value, *attributes = response["set-cookie"].split(b"; ")
        assert value.startswith(b"MESHLB=")
        assert sorted(attributes) == [b"HttpOnly", b"Path=/", b"SameSite=Lax"]
        for _ in range(4):
            request, again = await served(rig, "s1", with_cookie(value))
            assert "cookie" not in request
            assert "set-cookie" not in again
        assert rig.table.claims == []
        assert len(rig.table.planted) == 1
        _, other = await served(rig, "s2")
        assert other.cookie != value


async def test_the_cookie_of_the_proxy_is_taken_out_and_others_stay(tmp_path):
    async with scripted(tmp_path, "s1", sticky=BY_COOKIE) as rig:
        _, response = await served(rig, "s1")
        cookie = response.cookie
        request, _ = await served(rig, "s1", b"Cookie: a=1; " + cookie + b"; b=2")
        assert request["cookie"] == b"a=1; b=2"
        request, again = await served(rig, "s1", b"Cookie: a=1", with_cookie(cookie))
        assert request["cookie"] == b"a=1"
        assert "set-cookie" not in again


async def test_the_cookies_of_the_application_pass_beside_the_one_of_the_proxy(tmp_path):
    async with scripted(tmp_path, "s1", sticky=BY_COOKIE) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok(b"", b"Set-Cookie: app=1; Path=/", b"Set-Cookie: b=2"))
        response = await client.message()
        values = [value.partition(b";")[0] for value in response.all("set-cookie")]
        assert values[:2] == [b"app=1", b"b=2"]
        assert values[2].startswith(b"MESHLB=")


@pytest.mark.parametrize(
    "value",
    [
        b"MESHLB=",
        b"MESHLB=forged",
        b"MESHLB=" + b"A" * 80,
        b"MESHLB=" + b"A" * 5_000,
        b'MESHLB="; drop',
        sealed(secret=b"another secret, long enough"),
        sealed(pool="other"),
        sealed()[:-1] + b"!",
    ],
    ids=range(8),
)
async def test_a_cookie_that_we_did_not_seal_is_replaced(tmp_path, value):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        request, response = await served(rig, "s1", with_cookie(value))
        assert "cookie" not in request or b"MESHLB" not in request["cookie"]
        assert opened(response.cookie).backend == "s1"
        assert opened(response.cookie).key != KEY


async def test_a_cold_table_takes_the_pin_from_the_clients_cookie(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        cookie = sealed(backend="s2", epoch=3, made_s_ago=50, used_s_ago=50)
        _, response = await served(rig, "s2", with_cookie(cookie))
        assert "set-cookie" not in response
        assert rig.table.pins[KEY].epoch == 3
        assert rig.table.claims == []


async def test_a_newer_pin_overrules_the_cookie_and_is_sealed_anew(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        await served(rig, "s2", with_cookie(sealed(backend="s2")))
        rig.table.pins[KEY] = replace(rig.table.pins[KEY], backend=BackendName("s1"), epoch=1)
        _, response = await served(rig, "s1", with_cookie(sealed(backend="s2")))
        cookie = opened(response.cookie)
        assert (cookie.key, cookie.backend, cookie.epoch) == (KEY, "s1", 1)


@pytest.mark.parametrize(("used_s_ago", "is_refreshed"), [(250, False), (350, True)])
async def test_a_cookie_is_sealed_anew_after_a_quarter_of_its_ttl(
    tmp_path, used_s_ago, is_refreshed
):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        cookie = sealed(made_s_ago=900, used_s_ago=used_s_ago)
        _, response = await served(rig, "s2", with_cookie(cookie))
        assert ("set-cookie" in response) is is_refreshed
        if is_refreshed:
            before, after = opened(cookie), opened(response.cookie)
            assert (after.key, after.backend, after.made_at) == (KEY, "s2", before.made_at)
            assert after.refreshed_at > before.refreshed_at


async def test_a_session_that_was_idle_for_longer_than_its_ttl_is_decided_anew(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        cookie = sealed(backend="s2", made_s_ago=9_000, used_s_ago=1_600)
        _, response = await served(rig, "s1", with_cookie(cookie))
        assert opened(response.cookie).backend == "s1"
        (claim,) = rig.table.claims
        assert (claim.key, claim.moved_from, claim.moved_from_epoch) == (KEY, "", 0)


async def test_max_age_ends_a_session_that_is_in_use(tmp_path):
    sticky = BY_COOKIE + '\nmax_age = "1h"'
    async with scripted(tmp_path, "s1", "s2", sticky=sticky) as rig:
        young, old = (sealed(made_s_ago=age, used_s_ago=9) for age in (3_500, 3_700))
        await served(rig, "s2", with_cookie(young))
        _, response = await served(rig, "s1", with_cookie(old))
        cookie = opened(response.cookie)
        assert cookie.key != KEY
        assert time.time() - cookie.made_at < 60


async def test_a_session_that_moves_keeps_its_age(tmp_path):
    sticky = BY_COOKIE + '\nmax_age = "1h"'
    async with scripted(tmp_path, "s1", "s2", sticky=sticky) as rig:
        cookie = sealed(backend="s2", made_s_ago=3_000)
        await served(rig, "s2", with_cookie(cookie))
        rig.backend("s2").order(BackendState.MAINTENANCE)
        _, response = await served(rig, "s1", with_cookie(cookie))
        moved = opened(response.cookie)
        assert (moved.key, moved.backend, moved.epoch) == (KEY, "s1", 1)
        assert moved.made_at == opened(cookie).made_at


async def test_a_session_whose_backend_refuses_keeps_its_age(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        cookie = sealed(backend="s2", made_s_ago=3_000)
        await served(rig, "s2", with_cookie(cookie))
        rig.origins["s2"].close()
        _, response = await served(rig, "s1", with_cookie(cookie))
        assert opened(response.cookie).made_at == opened(cookie).made_at


@pytest.mark.parametrize("sticky", [BY_COOKIE, BY_HEADER])
async def test_a_draining_backend_keeps_its_sessions_and_gets_no_new_ones(tmp_path, sticky):
    async with scripted(tmp_path, "s1", "s2", sticky=sticky) as rig:
        _, response = await served(rig, "s1", b"X-Key: old")
        old = [b"X-Key: old", *([with_cookie(response.cookie)] if sticky == BY_COOKIE else [])]
        rig.backend("s1").order(BackendState.DRAINING)
        for number in range(3):
            await served(rig, "s2", b"X-Key: new-%d" % number)
            await served(rig, "s1", *old)
        rig.backend("s1").order(BackendState.UP)
        assert not any(claim.moved_from for claim in rig.table.claims)


async def test_maintenance_moves_a_session_once(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        await served(rig, "s1", b"X-Key: k")
        rig.backend("s1").order(BackendState.MAINTENANCE)
        for _ in range(3):
            await served(rig, "s2", b"X-Key: k")
        rig.backend("s1").order(BackendState.UP)
        await served(rig, "s2", b"X-Key: k")
        assert [(c.backend, c.moved_from) for c in rig.table.claims] == [("s1", ""), ("s2", "s1")]


async def test_a_backend_that_is_down_loses_its_sessions_once(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        _, response = await served(rig, "s1")
        rig.backend("s1").set_healthy(False)
        _, moved = await served(rig, "s2", with_cookie(response.cookie))
        rig.backend("s1").set_healthy(True)
        _, again = await served(rig, "s2", with_cookie(moved.cookie))
        assert "set-cookie" not in again
        (claim,) = rig.table.claims
        assert (claim.backend, claim.moved_from, claim.moved_from_epoch) == ("s2", "s1", 0)
        assert opened(moved.cookie).key == opened(response.cookie).key


async def test_a_pin_of_a_backend_that_no_longer_exists_moves(tmp_path):
    async with scripted(tmp_path, "s1", sticky=BY_COOKIE) as rig:
        _, response = await served(rig, "s1", with_cookie(sealed(backend="gone", epoch=4)))
        assert opened(response.cookie).epoch == 5
        (claim,) = rig.table.claims
        assert (claim.moved_from, claim.moved_from_epoch) == ("gone", 4)


async def test_rules_are_asked_in_their_order(tmp_path):
    sticky = f"{BY_HEADER}\n{BY_ADDRESS}"
    async with scripted(tmp_path, "s1", "s2", sticky=sticky) as rig:
        await served(rig, "s1", b"X-Key: a")
        await served(rig, "s2")  # The first by address.
        await served(rig, "s1", b"X-Key: b")
        for _ in range(2):
            await served(rig, "s2")
            await served(rig, "s1", b"x-key:  b ")
            await served(rig, "s2", b"X-Key: ")
        assert [claim.by for claim in rig.table.claims] == ["header", "source-ip", "header"]


async def test_keys_are_apart_by_value_and_the_same_for_all_clients(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        for number in range(6):
            await served(rig, ("s1", "s2")[number % 2], b"X-Key: %d" % number)
        for number in reversed(range(6)):
            await served(rig, ("s1", "s2")[number % 2], b"X-Key: %d" % number)
        assert len(rig.table.claims) == 6


async def test_the_address_that_a_trusted_proxy_states_is_the_key(tmp_path):
    listener = 'trusted_proxies = ["127.0.0.1/32", "10.0.0.0/8"]'
    async with scripted(tmp_path, "s1", "s2", sticky=BY_ADDRESS, listener=listener) as rig:
        await served(rig, "s1", b"X-Forwarded-For: 192.0.2.1")
        await served(rig, "s2", b"X-Forwarded-For: 192.0.2.2")
        await served(rig, "s1", b"X-Forwarded-For: 192.0.2.1, 10.1.1.1")
        await served(rig, "s1", b"X-Forwarded-For: 192.0.2.2, 192.0.2.1")
        await served(rig, "s2", b"X-Forwarded-For: 192.0.2.2", b"X-Forwarded-For: 10.0.0.1")


async def test_the_address_that_a_stranger_states_is_not_the_key(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_ADDRESS) as rig:
        for number in range(3):
            await served(rig, "s1", b"X-Forwarded-For: 192.0.2.%d" % number)


@pytest.mark.parametrize("trusted", ["", 'trusted_proxies = ["127.0.0.1/32"]'])
async def test_only_a_trusted_proxy_says_for_whom_it_asks(tmp_path, trusted):
    stated = (
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: public",
        b"Forwarded: for=192.0.2.1",
    )
    async with scripted(tmp_path, "s1", listener=trusted) as rig:
        request, _ = await served(rig, "s1", *stated)
        assert request["host"] == b"shop"
        if trusted:
            assert request["x-forwarded-for"] == b"192.0.2.1, 127.0.0.1"
            assert request["x-forwarded-proto"] == b"https"
            assert request["x-forwarded-host"] == b"public"
            assert request["forwarded"] == b"for=192.0.2.1, for=127.0.0.1"
        else:
            assert request["x-forwarded-for"] == b"127.0.0.1"
            assert request["x-forwarded-proto"] == b"http"
            assert request["x-forwarded-host"] == b"shop"
            assert "forwarded" not in request


async def test_an_http10_client_is_pinned_by_cookie_as_well(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        _, first = await served(rig, "s1")
        client = await rig.exchange(head(b"GET / HTTP/1.0", with_cookie(first.cookie)))
        backend = await rig.accept("s1")
        await backend.message()
        await backend.say(ok(b"again"))
        assert (await client.message()).body == b"again"


async def test_two_requests_of_one_connection_may_be_of_two_sessions(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        client = await rig.client()
        wires = {}
        for key, name in ((b"a", "s1"), (b"b", "s2"), (b"a", "s1"), (b"b", "s2")):
            await client.say(get(b"/", b"X-Key: " + key))
            wires[name] = wires.get(name) or await rig.accept(name)
            await wires[name].message()
            await wires[name].say(ok(name.encode()))
            assert (await client.message()).body == name.encode()
