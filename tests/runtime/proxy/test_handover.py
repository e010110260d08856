"""Connections that leave one data plane for another one, as in an upgrade."""

import hashlib
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from meshlb.config.loader import load
from meshlb.core.sticky.closed_table import ClosedTable
from meshlb.net.parcels import ParcelService
from meshlb.net.reactor import Reactor
from meshlb.proxy import handover, moving
from meshlb.proxy.plane import DataPlane
from tests.runtime.proxy.messages import get, head, ok
from tests.runtime.proxy.rig import (
    COOKIE_SECRET,
    KEY_SECRET,
    PATIENCE_S,
    Rig,
    eventually,
    scripted,
)
from tests.runtime.proxy.tls import Site
from tests.runtime.proxy.wire import Wire

UPGRADE = get(
    b"/chat",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHED = head(
    b"HTTP/1.1 101 Switching Protocols",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
)
RELAYS = ["off", "auto"]
BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"\nttl = "4s"'


@asynccontextmanager
async def heir_of(rig: Rig, directory: Path, old: str = "", new: str = "") -> AsyncIterator[Rig]:
    """Another plane at the same sockets, with the same table; the file may be changed first."""
    path = directory / "rig.toml"
    path.write_text(path.read_text().replace(old, new))
    sockets = {name: sock.dup() for name, sock in rig.plane.sockets.items()}
    reactor = Reactor()
    plane = DataPlane(
        load(path),
        rig.table,
        reactor=reactor,
        table_now=rig.table.now,
        cookie_secrets=(COOKIE_SECRET,),
        key_secret=KEY_SECRET,
        sockets=sockets,
    )
    gate = trio.Event()
    gate.set()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await plane.run(may_listen=gate, task_status=task_status)

    await handover.pause(rig.plane, timeout_s=1)
    rig.plane.use_table(ClosedTable(), rig.table.now)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await nursery.start(run)
        await plane.accepting.wait()
        if plane.tunnels.relays.own is not None:
            plane.tunnels.relays.own.messages_min = 0
        heir = Rig(plane, rig.table, nursery, gate)
        heir.origins = rig.origins
        yield heir
        nursery.cancel_scope.cancel()
    reactor.close()


def move(rig: Rig, heir: Rig, *, heirs: int = 1) -> int:
    """Everything that can move, moves; how much that was."""
    moved = 0
    facts, files = handover.stand_aside(rig.plane, heirs=heirs)
    if not heir.inherits:
        heir.inherits = True
        handover.keep(heir.plane, facts, [io.FileIO(os.dup(file.fileno())) for file in files])
    while taken := handover.next_load(rig.plane):
        sockets = [sock.dup() for sock in taken.sockets]
        for sock in sockets:
            sock.setblocking(False)
        handover.unpack(heir.plane, taken.facts, sockets)
        taken.left()
        moved += len(taken.facts)
    return moved


async def tunnel(rig: Rig, *fields: bytes) -> tuple[Wire, Wire]:
    client = await rig.exchange(UPGRADE[:-2] + b"".join(f + b"\r\n" for f in fields) + b"\r\n")
    backend = await rig.accept()
    await backend.message()
    await backend.say(SWITCHED)
    await client.head()
    return client, backend


async def test_an_idle_client_goes_on_in_the_other_plane(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await backend.say(ok())
        await client.message()
        async with heir_of(rig, tmp_path) as heir:
            await client.say(get(b"/next"))  # Nobody has taken it up yet.
            assert move(rig, heir) == 1
            await rig.settled(idle_upstreams=1, descriptors=1)
            again = await rig.accept()
            assert (await again.message()).line == b"GET /next HTTP/1.1"
            await again.say(ok(b"heir"))
            assert (await client.message()).body == b"heir"
            assert heir.in_use["clients"] == 1


async def test_a_head_that_is_split_by_the_move_at_any_byte_is_one_head(tmp_path):
    request = get(b"/whole", b"X-Some: field")
    async with scripted(tmp_path) as rig:
        clients = [await rig.exchange(request[:at]) for at in range(1, len(request))]
        await eventually(lambda: all(c.begun for c in rig.downstreams) and len(rig.downstreams) > 9)
        async with heir_of(rig, tmp_path) as heir:
            assert move(rig, heir) == len(clients)
            recorder = heir.record()
            for at, client in enumerate(clients, start=1):
                await client.say(request[at:])
                assert (await client.message()).status == 200
            assert len(recorder.requests) == len(clients)


async def test_an_exchange_ends_where_it_began_and_its_client_moves_then(tmp_path):
    async with scripted(tmp_path) as rig:
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        async with heir_of(rig, tmp_path) as heir:
            assert move(rig, heir) == 0
            await backend.say(ok(b"old"))
            answer = await client.message()
            assert answer.body == b"old"
            assert "connection" not in answer
            await client.say(get())
            await eventually(lambda: move(rig, heir) == 1)
            again = await rig.accept()
            await again.message()
            await again.say(ok(b"new"))
            assert (await client.message()).body == b"new"


async def test_newcomers_wait_for_the_heir(tmp_path):
    async with scripted(tmp_path) as rig:
        await handover.pause(rig.plane, timeout_s=1)
        client = rig.connect_now()
        client.say_now(get())
        await client.silent()
        assert rig.tally.accepted == 0
        async with heir_of(rig, tmp_path):
            backend = await rig.accept()
            await backend.message()
            await backend.say(ok(b"heir"))
            assert (await client.message()).body == b"heir"


@pytest.mark.parametrize("relay", RELAYS)
async def test_bytes_under_way_in_both_directions_arrive_once_and_in_order(tmp_path, relay):
    size = 3_000_000
    to_backend, to_client = os.urandom(size), os.urandom(size)
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)

        async def say(wire: Wire, message: bytes) -> None:
            for start in range(0, size, 50_000):
                await wire.stream.send_all(message[start : start + 50_000])
                await trio.sleep(0.001)
            await wire.fin()

        async def hear(wire: Wire, message: bytes) -> None:
            heard = hashlib.sha256()
            while piece := await wire.some(10_000):
                heard.update(piece)
            assert heard.digest() == hashlib.sha256(message).digest()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, client, to_backend)
            nursery.start_soon(say, backend, to_client)
            await trio.sleep(0.02)  # Both are in full flow, and nobody reads: backlogs.
            async with heir_of(rig, tmp_path) as heir:
                nursery.start_soon(hear, client, to_client)
                nursery.start_soon(hear, backend, to_backend)
                await eventually(lambda: move(rig, heir) == 1)
                await eventually(lambda: not len(heir.plane.tunnels))
                assert not len(heir.plane.tunnels)


@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("side", ["client", "backend"])
async def test_a_tunnel_that_is_closed_on_one_side_stays_half_open(tmp_path, side, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)
        ended, other = (client, backend) if side == "client" else (backend, client)
        await ended.fin()
        await other.ended()
        async with heir_of(rig, tmp_path) as heir:
            assert move(rig, heir) == 1
            await other.say(b"still here")
            await ended.hear(b"still here")
            await other.fin()
            await ended.ended()
            await eventually(lambda: not len(heir.plane.tunnels))
            assert not len(heir.plane.tunnels)


@pytest.mark.parametrize("relay", RELAYS)
async def test_messages_of_a_quiet_tunnel_go_on_in_both_directions(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        client, backend = await tunnel(rig)
        for number in range(20):
            await client.say(b"to %d" % number)
            await backend.hear(b"to %d" % number)
            await backend.say(b"fro %d" % number)
            await client.hear(b"fro %d" % number)
        async with heir_of(rig, tmp_path) as heir:
            await client.say(b"under way")
            await eventually(lambda: move(rig, heir) == 1)
            await backend.hear(b"under way")
            for number in range(20):
                await client.say(b"to %d" % number)
                await backend.hear(b"to %d" % number)
                await backend.say(b"fro %d" % number)
                await client.hear(b"fro %d" % number)
            await client.close()
            await backend.gone()


async def test_a_tunnel_keeps_its_pin_alive_in_the_other_plane(tmp_path):
    async with scripted(tmp_path, sticky=BY_HEADER) as rig:
        client, backend = await tunnel(rig, b"X-Key: k")
        async with heir_of(rig, tmp_path) as heir:
            assert move(rig, heir) == 1
            rig.table.touched.clear()
            assert heir.backend().connections == 1
            await eventually(lambda: bool(rig.table.touched))
            assert rig.table.touched
            await client.close()
            await backend.ended()
            await backend.close()
            await eventually(lambda: not heir.backend().connections)


@pytest.mark.parametrize("relay", RELAYS)
async def test_what_is_put_back_goes_on_as_before(tmp_path, relay):
    async with scripted(tmp_path, relay=relay) as rig:
        idle = await rig.exchange(get(b"/half")[:-2])
        client, backend = await tunnel(rig)
        await eventually(lambda: len(rig.downstreams) == 1 and bool(rig.downstreams[0].begun))
        await handover.pause(rig.plane, timeout_s=1)
        handover.stand_aside(rig.plane, heirs=1)
        taken = handover.next_load(rig.plane)
        assert len(taken.facts) == 2
        await client.say(b"meanwhile")
        await idle.say(b"\r\n")
        await backend.silent()
        taken.put_back()
        handover.resume(rig.plane)
        await backend.hear(b"meanwhile")
        other = await rig.accept()
        await other.message()
        await other.say(ok())
        await idle.message()
        await backend.say(b"back")
        await client.hear(b"back")


async def test_what_the_heir_does_not_have_any_more_is_closed_or_only_counted(tmp_path):
    async with scripted(tmp_path) as rig:
        idle = await rig.client()
        client, backend = await tunnel(rig)
        await eventually(lambda: rig.tally.connections == 1)
        async with heir_of(rig, tmp_path, 'name = "web"', 'name = "other"') as heir:
            assert move(rig, heir) == 2
            await idle.ended()
            await client.say(b"on")
            await backend.hear(b"on")


async def test_who_waits_for_a_decision_is_waited_for_and_cut_off_in_the_end(tmp_path):
    async with scripted(tmp_path, sticky=BY_HEADER) as rig:
        rig.table.answers = trio.Event()
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        await eventually(lambda: bool(rig.table.claims))
        with trio.fail_after(PATIENCE_S):
            await handover.pause(rig.plane, timeout_s=0.1)
        assert (await client.message()).status == 503
        rig.table.answers.set()


async def test_tunnels_over_tls_are_closed_with_1012_between_two_frames(tmp_path):
    site = Site(tmp_path)
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        await client.say(UPGRADE)
        backend = await rig.accept()
        await backend.message()
        await backend.say(SWITCHED)
        await client.head()
        async with heir_of(rig, tmp_path) as heir:
            assert move(rig, heir) == 0
            await client.say(b"last")
            await backend.hear(b"last")
            line, there = ParcelService.pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(moving.take, heir.plane, ParcelService(there))
                nursery.start_soon(partial(moving.give, rig.plane, [line], timeout_s=60))
                await client.hear(b"\x88\x02\x03\xf4")
                await client.say(b"its answer")
                await backend.hear(b"its answer")
                await backend.close()
                await client.gone()


async def test_idle_clients_by_tls_are_disconnected(tmp_path):
    site = Site(tmp_path)
    async with scripted(tmp_path, listener=site.listener) as rig:
        client = await site.client(rig)
        await eventually(lambda: rig.tally.handshakes == 1 and len(rig.downstreams) == 1)
        async with heir_of(rig, tmp_path) as heir:
            assert move(rig, heir) == 0
            handover.send_away(rig.plane)
            await client.gone()
            assert handover.is_empty(rig.plane)
