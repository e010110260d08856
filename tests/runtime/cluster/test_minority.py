"""What a node does that the majority has left behind, with and without `mode = "strict"`."""

import dataclasses

import pytest

from meshlb.errors import NoQuorumError
from meshlb.model import BackendName
from meshlb.wire.messages import Rank
from tests.runtime.cluster.kit import Node, cluster, key_of, proposal, until


async def leave_alone(nodes: list[Node]) -> Node:
    """The last node, once it has given the others up."""
    *others, last = nodes
    for node in others:
        await node.stop()
    await until(lambda: sum(member.is_live for member in last.mesh.members()) == 1)
    assert not last.mesh.is_quorate
    return last


async def test_a_minority_pins_for_the_time_being_and_moves_nothing() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        agreed = await nodes[0].mesh.table.claim(proposal(key_of(1), "s1"))
        await until(lambda: nodes[2].look_up(key_of(1)) is not None)
        last = await leave_alone(nodes)
        fresh = await last.mesh.table.claim(proposal(key_of(2), "s2"))
        assert fresh.rank is Rank.MINORITY
        move = dataclasses.replace(
            proposal(key_of(1), "s2"), moved_from=BackendName("s1"), moved_from_epoch=agreed.epoch
        )
        served = await last.mesh.table.claim(move)
        assert served.backend == "s2", "the client is served"
        stored = last.store.pins[key_of(1)]
        assert (stored.backend, stored.epoch) == ("s1", agreed.epoch), "but the pin stays"


async def test_a_strict_minority_begins_no_session_and_goes_on_with_those_there_are() -> None:
    async with cluster("a", "b", "c", is_strict=True) as (nodes, _):
        agreed = await nodes[0].mesh.table.claim(proposal(key_of(1), "s1"))
        assert agreed.rank is Rank.QUORATE
        await until(lambda: nodes[2].look_up(key_of(1)) is not None)
        last = await leave_alone(nodes)
        table = last.mesh.table
        with pytest.raises(NoQuorumError):
            await table.claim(proposal(key_of(2), "s2"))
        assert last.mesh.counters.sessions_refused == 1
        assert last.look_up(key_of(2)) is None
        found = last.look_up(key_of(1))
        assert found is not None
        assert found.backend == "s1"
        brought_back = table.plant(proposal(key_of(4), "s2"), epoch=0)
        assert brought_back.backend == "s2"
        assert last.look_up(key_of(4)) is not None


async def test_a_strict_node_refuses_what_the_cluster_does_not_agree_on_in_time() -> None:
    async with cluster("a", "b", "c", is_strict=True) as (nodes, _):
        a, b, c = nodes
        # Nobody has noticed yet that the others are gone: the claim finds out by silence.
        await b.stop()
        await c.stop()
        for number in range(3):
            with pytest.raises(NoQuorumError):
                await a.mesh.table.claim(proposal(key_of(number), "s1"))
            assert a.look_up(key_of(number)) is None, "the provisional pin is not followed"
