"""Lines over which connections move, and which may break."""

import io
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from meshlb.errors import HandOverError
from meshlb.net.bpf.relay_program import RelayProgram
from meshlb.net.parcels import ParcelService
from meshlb.proxy import handover, moving
from meshlb.proxy.relays import Left
from tests.fakes.privileges import need_kernel_relay
from tests.runtime.proxy.messages import get, ok
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.test_handover import heir_of, tunnel
from tests.runtime.proxy.wire import Wire


def lines(count: int) -> tuple[list[ParcelService], list[socket.socket]]:
    pairs = [ParcelService.pair() for _ in range(count)]
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


@asynccontextmanager
async def connected(tmp_path: Path, idle: int) -> AsyncIterator[tuple[Rig, Rig, list[Wire]]]:
    """A plane with so many idle clients, its heir, and these."""
    async with scripted(tmp_path) as rig:
        clients = [await rig.client() for _ in range(idle)]
        await eventually(lambda: rig.tally.connections == idle)
        async with heir_of(rig, tmp_path) as heir:
            yield rig, heir, clients


async def all_answered(heir: Rig, clients: list[Wire]) -> None:
    for client in clients:
        await client.say(get())
        backend = await heir.accept()
        await backend.message()
        await backend.say(ok(b"heir"))
        assert (await client.message()).body == b"heir"
        await backend.close()


async def test_loads_go_to_the_takers_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(handover, "MOVES_PER_PARCEL_MAX", 2)
    async with connected(tmp_path, 8) as (rig, heir, clients):
        ours, theirs = lines(2)
        takers = [ParcelService(line) for line in theirs]
        taken = [0, 0]

        async def count(number: int) -> None:
            receive = takers[number].receive

            async def counted():
                parcel = await receive()
                taken[number] += parcel.what == "load"
                return parcel

            takers[number].receive = counted
            await moving.take(heir.plane, takers[number])

        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(count, number)
            await moving.give(rig.plane, ours, timeout_s=5)
        assert taken == [2, 2]
        assert handover.is_empty(rig.plane)
        await all_answered(heir, clients)


async def test_what_a_broken_line_does_not_take_goes_by_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr(handover, "MOVES_PER_PARCEL_MAX", 2)
    async with connected(tmp_path, 6) as (rig, heir, clients):
        ours, (broken, sound) = lines(2)

        async def hang_up() -> None:
            taker = ParcelService(broken)
            for what in ("keep", "load"):
                (await taker.expect(what)).close()
            taker.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            nursery.start_soon(moving.take, heir.plane, ParcelService(sound))
            await moving.give(rig.plane, ours, timeout_s=5)
        assert handover.is_empty(rig.plane)
        await all_answered(heir, clients)


async def test_without_a_line_everybody_stays(tmp_path):
    async with connected(tmp_path, 3) as (rig, _, clients):
        ours, theirs = lines(2)
        for line in theirs:
            line.close()
        with pytest.raises(HandOverError, match="nobody takes"):
            await moving.give(rig.plane, ours, timeout_s=5)
        handover.resume(rig.plane)
        assert rig.tally.connections == len(clients)


async def test_a_taker_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(moving, "TAKE_S_MAX", 0.05)
    async with connected(tmp_path, 1) as (rig, _, _clients):
        ours, theirs = lines(1)
        with pytest.raises(HandOverError, match="took too long"):
            await moving.give(rig.plane, ours, timeout_s=5)
        theirs[0].close()
        handover.resume(rig.plane)
        assert rig.tally.connections == 1


async def test_what_tunnels_need_is_kept_while_more_of_them_may_come(tmp_path):
    """A bug once: with the first tunnel that ended it was given up for those on their way."""
    need_kernel_relay()
    async with scripted(tmp_path, relay="required") as rig:
        client, backend = await tunnel(rig)
        tunnels = rig.plane.tunnels
        relays = tunnels.relays
        program = RelayProgram(1)
        files = [io.FileIO(os.dup(fd)) for fd in program.shared_fds]
        program.close()
        with tunnels.arriving():
            relays.adopt(Left("other", 1, False, files))
            await client.close()
            await backend.close()
            await eventually(lambda: not len(tunnels))
            assert not len(tunnels)
            assert len(relays._all()) == 2
        assert relays._all() == [relays.own]
