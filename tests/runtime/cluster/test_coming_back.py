"""A member that comes back with its disk after a long time brings nothing back to life."""

import time
from dataclasses import replace

import trio

from meshlb.core.sticky.homes import Homes
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S, with_lifetime
from meshlb.model import MemberState, NodeName, SessionKey
from meshlb.wire.messages import Rank
from tests.fakes.pins import a_pin
from tests.runtime.cluster.kit import Node, cluster, key_of, owners, proposal, until


async def test_what_was_deleted_while_a_member_was_away_stays_deleted() -> None:
    async with cluster("a", "b", "c") as (nodes, nursery):
        for number in range(20):
            nodes[0].mesh.table.plant(proposal(key_of(number), "s1"))
        await until(lambda: all(len(node.store.pins) == 20 for node in nodes))
        await nodes[2].stop()
        for node in nodes[:2]:  # the tombstones of the even ones are gone long ago
            for number in range(0, 20, 2):
                node.dropped(key_of(number))
        again = Node(
            "c",
            join=[nodes[0].address],
            bind=nodes[2].address,
            pins=nodes[2].store.pins,
            last_contact=time.time() - TOMBSTONE_GRACE_S - 1.0,
        )
        again.mesh._pins.turns.replication.away_since_ms = round((time.time() + 1) * 1_000)
        await nursery.start(again.run)
        await until(lambda: again.is_synced)
        for number in range(20):
            is_there = again.look_up(key_of(number)) is not None
            assert is_there == bool(number % 2)
        await until(lambda: nodes[0].sees_alive("a", "b", "c"))
        assert len(nodes[0].store.pins) == len(nodes[1].store.pins) == 10


async def test_a_tombstone_is_kept_for_as_long_as_a_member_is_away() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        a, b, c = nodes
        a.mesh.table.plant(proposal(key_of(1), "s1"))
        assert a.mesh.unpin(key_of(1))
        stone = a.store.pins[key_of(1)]
        assert not a.mesh.fading(key_of(1), stone)
        await c.stop()
        await until(lambda: a.states()["c"] is MemberState.DEAD)
        fading = with_lifetime(stone, expires_at=stone.expires_at - 3_000.0, ends_at=stone.ends_at)
        for node in (a, b):
            node.store.pins[key_of(1)] = fading
        assert a.mesh.fading(key_of(1), fading)
        await until(lambda: b.store.pins[key_of(1)].expires_at > fading.expires_at + 1.0)


async def test_two_sides_that_meet_with_what_their_disks_hold_give_no_key_a_second_backend() -> (
    None
):
    holders = Homes(tuple(map(NodeName, "abc"))).holders
    keys = [key for key in map(key_of, range(200)) if holders(key) == ("b", "c")]
    assert len(keys) > 10
    disk = {key: replace(a_pin("s1"), expires_at=time.time() + 600.0) for key in keys}
    async with cluster("b", "c") as (nodes, nursery):
        b, c = nodes
        a = Node("a", pins=disk)
        await nursery.start(a.run)
        await until(lambda: a.is_synced)  # alone, as behind a cut
        a.mesh.use(replace(a.options, join=(b.address,)))
        await until(lambda: owners(b) == owners(c) == 3)

        async def ask(key: SessionKey) -> None:
            pin = await b.mesh.table.claim(proposal(key, "s2"))
            assert pin.backend == "s1" or pin.rank is Rank.PROVISIONAL

        async with trio.open_nursery() as clients:
            for key in keys:
                clients.start_soon(ask, key)
        await until(lambda: all(node.store.pins.keys() >= disk.keys() for node in nodes))
        assert all(node.mesh.claim_counters.conflicts == 0 for node in (a, b, c))
