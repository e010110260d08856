"""Repair over real sockets: what a table has lost comes back."""

from dataclasses import replace

from meshlb.model import NodeName
from tests.runtime.cluster.kit import Node, cluster, key_of, proposal, until


def sync_of(node: Node, peer: str) -> tuple[bool, int]:
    sync = node.mesh.sync().get(NodeName(peer))
    return (sync is not None, sync.differing if sync is not None else -1)


async def test_members_that_agree_prove_it_to_each_other() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        for number in range(50):
            nodes[number % 3].mesh.table.plant(proposal(key_of(number), "s1"))
        await until(
            lambda: all(
                sync_of(node, peer) == (True, 0)
                for node in nodes
                for peer in "abc"
                if peer != node.mesh.name
            )
        )


async def test_pins_that_a_table_has_lost_come_back() -> None:
    async with cluster("a", "b") as (nodes, _):
        a, b = nodes
        for number in range(2_000):
            nodes[number % 2].mesh.table.plant(proposal(key_of(number), f"s{number % 3}"))
        await until(lambda: sync_of(a, "b") == sync_of(b, "a") == (True, 0))
        for number in range(0, 2_000, 4):
            b.dropped(key_of(number))
        await until(lambda: sync_of(b, "a")[0] and not b.mesh._pins.turns.repair._alike)
        b.mesh._pins.turns.repair._compare_at = 0.0  # 30 s are long for a test
        await until(lambda: len(b.store.pins) == 2_000)
        await until(lambda: sync_of(a, "b") == sync_of(b, "a") == (True, 0))
        alike = [
            {key: replace(pin, expires_at=0.0) for key, pin in node.store.pins.items()}
            for node in nodes
        ]
        assert alike[0] == alike[1]
        assert b.mesh.counters.keys_repaired == 500
