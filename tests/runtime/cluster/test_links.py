"""Links over real sockets: at most one to each member, whoever dials, and again after a break."""

import trio

from meshlb.cluster.link import Link
from tests.runtime.cluster.kit import Node, cluster, key_of, proposal, until


def links(node: Node) -> tuple[Link, ...]:
    return node.part.links.all()


def is_one_pair(one: Node, other: Node) -> bool:
    """True where both have exactly one link, the two ends of one connection."""
    mine, theirs = links(one), links(other)
    return len(mine) == len(theirs) == 1 and (mine[0].dialled is None) != (
        theirs[0].dialled is None
    )


async def test_members_that_dial_each_other_at_once_keep_one_link() -> None:
    async with cluster("a", "b") as (nodes, _):
        for _ in range(10):
            for node, other in (nodes, nodes[::-1]):
                for link in links(node):
                    link.close("broken")
                node.part.links.dial(other.address)
            await until(lambda: is_one_pair(*nodes))
        await trio.sleep(0.1)
        await until(lambda: is_one_pair(*nodes))
        await until(lambda: all(node.sees_alive("a", "b") for node in nodes))


async def test_a_dial_to_a_linked_member_changes_nothing() -> None:
    async with cluster("a", "b") as (nodes, _):
        (before,) = links(nodes[0])
        refused = nodes[0].mesh.counters.refused_by_peers
        for count in range(1, 4):
            nodes[0].part.links.dial(nodes[1].address)
            await until(lambda n=count: refused["already-linked"] >= n)
        assert links(nodes[0]) == (before,)
        assert before.is_open


async def test_what_was_pinned_while_a_link_was_down_arrives_after_it() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        for round_number in range(5):
            for link in links(nodes[0]):
                link.close("broken")
            for number in range(20):
                nodes[0].mesh.table.plant(proposal(key_of(100 * round_number + number), "s1"))
        await until(lambda: all(len(node.store.pins) == 100 for node in nodes))
        pin = await nodes[1].mesh.table.claim(proposal(key_of(9_999), "s2"))
        assert pin.backend == "s2"
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in nodes))
