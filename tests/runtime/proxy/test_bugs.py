"""Bugs of our own, put in on purpose: each costs one connection, and leaves nothing behind."""

import pytest
from structlog.testing import capture_logs

from tests.native import of_the_source
from tests.runtime.proxy.messages import get, head, ok
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.test_upgrade import tunnel

BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'


class BadTable:
    """A stick table that fails as it is told to."""

    def __init__(self, rig: Rig, *verbs: str) -> None:
        self._table = rig.table
        self.verbs = set(verbs)

    def __getattr__(self, name: str):
        if name in self.verbs:
            raise RuntimeError(name)
        return getattr(self._table, name)


def break_table(rig: Rig, *verbs: str) -> BadTable:
    pool = next(iter(rig.plane.pools.values()))
    table = BadTable(rig, *verbs)
    pool.router._table = pool.dispatcher._table = rig.plane.tunnels._table = table
    return table


async def served(rig: Rig) -> None:
    """The proxy still works for others."""
    client = await rig.exchange(get(b"/", b"X-Key: other", b"Connection: close"))
    backend = await rig.accept()
    await backend.message()
    await backend.say(ok(b"fine", b"Connection: close"))
    assert (await client.message()).body == b"fine"
    await client.ended()
    await client.close()


@pytest.mark.parametrize("verb", ["look_up", "claim_soon"])
async def test_a_table_that_fails_costs_the_connection_that_asked(tmp_path, verb):
    async with scripted(tmp_path, sticky=BY_HEADER) as rig:
        table = break_table(rig, verb)
        with capture_logs() as logs:
            client = await rig.exchange(get(b"/", b"X-Key: k"))
            await client.broken()
        assert [line["event"] for line in logs] == ["a connection failed"]
        await rig.settled()
        table.verbs.clear()
        await served(rig)


@pytest.mark.parametrize("verb", ["look_up", "claim"])
async def test_a_table_that_fails_costs_the_tcp_client_that_asked(tmp_path, verb):
    sticky = '[[pool.app.sticky]]\nby = "source-ip"'
    async with scripted(tmp_path, sticky=sticky, protocol="tcp") as rig:
        table = break_table(rig, verb)
        with capture_logs():
            client = await rig.client()
            await client.broken()
        await rig.settled()
        table.verbs.clear()
        client = await rig.exchange(b"hello")
        await (await rig.accept()).hear(b"hello")


@of_the_source
async def test_a_bug_in_forwarding_after_a_wait_costs_one_connection(tmp_path):
    async with scripted(tmp_path) as rig:
        forwarding = rig.plane._frontends[0].forwarding
        lines, forwarding.lines = forwarding.lines, None
        with capture_logs():
            client = await rig.exchange(get())
            await client.broken()
        await rig.settled()
        forwarding.lines = lines
        await served(rig)


async def test_a_bug_in_starting_a_tunnel_after_a_wait_costs_one_connection(tmp_path):
    async with scripted(tmp_path, protocol="tcp") as rig:
        await rig.origins["s1"].skip_probes()
        start, rig.plane.tunnels.start = rig.plane.tunnels.start, None
        with capture_logs():
            client = await rig.client()
            await client.broken()
            await (await rig.accept(talks=False)).gone()
        await rig.settled()
        rig.plane.tunnels.start = start
        client = await rig.exchange(b"hello")
        await (await rig.accept()).hear(b"hello")


@of_the_source
async def test_a_bug_in_reading_a_response_costs_one_exchange(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        (downstream,) = rig.downstreams
        downstream._upstream._parser = None
        with capture_logs() as logs:
            await backend.say(ok())
            await client.broken()
            await backend.gone()
        assert [line["event"] for line in logs] == ["a connection failed"]
        await rig.settled()
        await served(rig)


@of_the_source
async def test_a_bug_in_a_time_out_costs_one_connection(tmp_path, unhurried):
    async with scripted(tmp_path, listener='timeouts = { head = "100ms" }') as rig:
        good = await rig.client()
        client = await rig.exchange(b"GET / HT")
        await eventually(lambda: any(d._buffer for d in rig.downstreams))
        (downstream,) = [d for d in rig.downstreams if d._buffer]
        downstream._phase_since = None
        with capture_logs():
            await client.broken()
        await good.silent(0.3)


async def test_a_bug_in_the_lease_of_a_tunnel_costs_that_tunnel(tmp_path):
    sticky = '[[pool.app.sticky]]\nby = "cookie"\nttl = "1s"'
    async with scripted(tmp_path, sticky=sticky) as rig:
        client, backend = await tunnel(rig)
        table = break_table(rig, "look_up")
        with capture_logs():
            await client.broken()
            await backend.gone()
        await rig.settled()
        table.verbs.clear()
        await served(rig)


@of_the_source
async def test_a_client_that_cannot_be_welcomed_does_not_cost_the_listener(tmp_path):
    async with scripted(tmp_path) as rig:
        schedule, rig.plane._reactor.schedule = rig.plane._reactor.schedule, None
        with capture_logs():
            client = await rig.client()
            await client.gone()
        rig.plane._reactor.schedule = schedule
        await rig.settled()
        await served(rig)


@of_the_source
async def test_a_backend_whose_connection_cannot_be_registered_is_not_counted(tmp_path):
    async with scripted(tmp_path) as rig:
        reactor = rig.plane._reactor
        register = reactor.register

        def refuse(fd: int, *arguments: object) -> None:
            if rig.tally.accepted:
                raise OSError(28, "no space left on device")
            register(fd, *arguments)

        client = await rig.client()
        await rig.settled(clients=1, descriptors=1)
        reactor.register = refuse
        with capture_logs():
            await client.say(head(b"GET / HTTP/1.1", b"Host: shop"))
            await client.gone()
        reactor.register = register
        await rig.settled()
        await served(rig)
