"""Relayed tunnels that leave one data plane for another one, and the relays that they sit in."""

import os

import pytest
import trio

from meshlb.proxy import handover
from meshlb.proxy.carried import Seat
from meshlb.proxy.relayed_end import CARRIED, USER, RelayedEnd
from meshlb.proxy.relays import Relays
from tests.fakes.privileges import need_kernel_relay
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.test_handover import heir_of, move, tunnel


async def test_a_tunnel_that_has_moved_is_the_kernels_again_and_can_move_once_more(tmp_path):
    need_kernel_relay()

    def states(rig: Rig) -> list[int]:
        (one,) = rig.plane.tunnels
        return [end.state for end in (one.downstream, one.upstream) if isinstance(end, RelayedEnd)]

    async def talk() -> None:
        for number in range(20):
            await client.say(b"to %d" % number)
            await backend.hear(b"to %d" % number)
            await backend.say(b"fro %d" % number)
            await client.hear(b"fro %d" % number)

    async with scripted(tmp_path, relay="required") as rig:
        client, backend = await tunnel(rig)
        await talk()
        async with heir_of(rig, tmp_path) as heir:
            await eventually(lambda: move(rig, heir) == 1)
            assert states(heir) == [CARRIED, CARRIED]
            await talk()
            async with heir_of(heir, tmp_path) as next_heir:
                with next_heir.plane.tunnels.arriving():
                    await eventually(lambda: move(heir, next_heir) == 1)
                assert states(next_heir) == [CARRIED, CARRIED]
                relays: Relays = next_heir.plane.tunnels.relays
                assert len(relays._all()) == 2, "what nobody sits in is not kept"
                await talk()
                counters = next_heir.plane.counters
                await client.close()
                await backend.gone()
                await backend.close()
                await eventually(lambda: not len(next_heir.plane.tunnels))
                assert relays._all() == [relays.own]
                assert counters.relayed_up_bytes == sum(len(b"to %d" % n) for n in range(20))


@pytest.mark.parametrize("why", ["it is switched off", "it is shared"])
async def test_a_moved_tunnel_stays_in_user_space_where_the_relay_cannot_go_on(tmp_path, why):
    need_kernel_relay()
    async with scripted(tmp_path, relay="required") as rig:
        client, backend = await tunnel(rig)
        heirs = 2 if why == "it is shared" else 1
        relay = "off" if why == "it is switched off" else "required"
        off = ('kernel_relay = "required"', f'kernel_relay = "{relay}"')
        async with heir_of(rig, tmp_path, *off) as heir:
            await eventually(lambda: move(rig, heir, heirs=heirs) == 1)
            message = os.urandom(1 << 20)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.say, message)
                await backend.hear(message)
            (one,) = heir.plane.tunnels
            assert isinstance(one.downstream, RelayedEnd)
            assert one.downstream.state == USER
            await backend.close()
            await client.gone()


async def test_a_tunnel_on_its_way_is_not_read_for_an_end_that_the_kernel_stated_too_early(
    tmp_path,
):
    need_kernel_relay()
    async with scripted(tmp_path, relay="required") as rig:
        client, backend = await tunnel(rig)
        (one,) = rig.plane.tunnels
        assert isinstance(one.downstream, RelayedEnd)
        relay = rig.plane.tunnels.relays.own
        assert relay is not None
        await handover.pause(rig.plane, timeout_s=1)
        handover.stand_aside(rig.plane, heirs=1)
        relay.await_delivery(one.downstream)
        taken = handover.next_load(rig.plane)
        assert one.downstream.carried().seat == Seat(relay.name, one.downstream.place, 0)
        await client.say(b"for whoever has the tunnel")
        await backend.silent()
        taken.put_back()
        handover.resume(rig.plane)
        await backend.hear(b"for whoever has the tunnel")
