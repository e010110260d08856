"""Who is let in, and what a node does about members that come and go."""

import os
import socket
from dataclasses import replace

import pytest
import trio
from structlog.testing import capture_logs

from meshlb.core.swim.events import StreamReceived
from meshlb.model import Address, MemberState, NodeName
from tests.runtime.cluster.kit import Node, cluster, until


async def refused_with(
    node: Node, at: Node, nursery: trio.Nursery, reason: str
) -> list[dict[str, object]]:
    """Start a node that must be refused; the lines that tell of it."""
    with capture_logs() as lines:
        await nursery.start(node.run)
        counters = node.mesh.counters
        await until(lambda: counters.refused_by_peers[reason] >= 3)
        await until(lambda: at.mesh.counters.handshakes_refused[reason] >= 3)
    return [dict(line) for line in lines if line.get("reason") == reason]


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("other-secret", {"secrets": (os.urandom(32),)}),
        ("other-cluster", {"cluster": "staging"}),
        ("name-taken", {"name": "b"}),
    ],
)
async def test_a_node_that_does_not_belong_is_refused_and_told_why(
    reason: str, options: dict[str, str]
) -> None:
    async with cluster("a", "b") as (nodes, nursery):
        intruder = Node(**{"name": "z", "join": [nodes[0].address]} | options)
        lines = await refused_with(intruder, nodes[0], nursery, reason)
        assert [line["log_level"] for line in lines] == ["warning", "error"] or [
            line["log_level"] for line in lines
        ] == ["error", "warning"]
        assert not intruder.is_synced
        assert reason in intruder.mesh.readiness()[1]
        await until(lambda: all(node.sees_alive("a", "b") for node in nodes))
        assert not any("ssss" in str(line) for line in lines)
        await intruder.stop()


async def test_a_node_with_its_own_address_among_the_seeds_is_not_refused() -> None:
    async with cluster("a") as (nodes, nursery):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            mine = Address("127.0.0.1", probe.getsockname()[1])
        late = Node("b", bind=mine, join=[mine, nodes[0].address])
        with capture_logs() as lines:
            await nursery.start(late.run)
            await until(lambda: late.is_synced)
        assert not [line for line in lines if line["log_level"] in ("error", "warning")]


async def test_a_lost_link_to_a_live_member_is_dialled_again() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        for node in nodes:
            for link in node.part.agent.links.all():
                link.close("broken")
        await until(lambda: all(len(node.part.agent.links.all()) == 2 for node in nodes))
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in nodes))


async def test_claims_know_whom_the_cluster_suspects_until_the_suspect_has_refuted() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        agent = nodes[0].part.agent
        doubted = agent._turns.claims._standing
        (b,) = [member for member in nodes[0].mesh.members() if member.name == "b"]
        told = replace(b.update(), state=MemberState.SUSPECT, reporter=NodeName("c"))
        agent._receive(StreamReceived(NodeName("c"), (told,)))
        assert doubted.suspects == {"b"}
        await until(lambda: not doubted.suspects)
        await until(lambda: nodes[0].sees_alive("a", "b", "c"))


async def test_a_dead_member_that_is_forgotten_counts_for_nobody_any_more() -> None:
    async with cluster("a", "b", "c", "d") as (nodes, _):
        a, b, c, d = nodes
        await c.stop()
        await d.stop()
        await until(lambda: not a.mesh.is_quorate and not b.mesh.is_quorate)
        assert not a.mesh.forget(NodeName("b"))
        assert a.mesh.forget(NodeName("d"))
        await until(lambda: a.mesh.is_quorate and b.mesh.is_quorate)
        assert b.states()["d"] is MemberState.LEFT


async def test_a_crashed_seed_is_found_again_when_it_is_back() -> None:
    async with cluster("a", "b") as (nodes, nursery):
        await nodes[0].stop()
        await until(lambda: nodes[1].states()["a"] is MemberState.DEAD)
        again = Node("a", bind=nodes[0].address)
        await nursery.start(again.run)
        await until(lambda: again.sees_alive("a", "b") and nodes[1].sees_alive("a", "b"))


async def test_a_blocked_event_loop_is_counted_and_blames_nobody() -> None:
    async with cluster("a", "b") as (nodes, _):
        await trio.sleep(0.1)
        deadline = trio.current_time() + 0.3
        while trio.current_time() < deadline:
            """All members of this process stand still."""
        await trio.sleep(0.2)
        assert nodes[0].mesh.counters.loop_lag_s_max > 0.2
        await until(lambda: all(node.sees_alive("a", "b") for node in nodes))
