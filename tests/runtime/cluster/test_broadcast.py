"""Broadcasts over real sockets."""

from meshlb.model import BackendName, BackendState, NodeName, PoolName
from meshlb.wire.broadcast_words import Payload, Topic
from tests.runtime.cluster.kit import Node, cluster, until

NEWS = Topic("news")


def listen(node: Node) -> list[tuple[NodeName, Payload]]:
    heard: list[tuple[NodeName, Payload]] = []
    node.mesh.on_broadcast(NEWS, lambda sender, payload: heard.append((sender, payload)))
    return heard


async def test_a_broadcast_returns_once_every_member_has_handled_it() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        a, b, c = nodes
        heard = listen(b), listen(c)
        receipt = await a.mesh.broadcast(NEWS, Payload(b"x" * 10_000), timeout_s=10.0)
        assert receipt.acknowledged == ("b", "c")
        assert receipt.is_complete
        assert heard == ([("a", b"x" * 10_000)],) * 2


async def test_a_member_that_does_not_handle_it_is_named() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        listen(nodes[1])
        receipt = await nodes[0].mesh.broadcast(NEWS, Payload(b"x"), timeout_s=2.0)
        assert (receipt.acknowledged, receipt.waiting_for) == (("b",), ("c",))


async def test_a_broadcast_goes_on_where_a_stream_was_replaced_or_a_member_has_died() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        a, b, c = nodes
        heard = listen(b)
        await c.stop()  # nobody has noticed yet
        agent = a.part.agent
        agent.links.close(NodeName("b"), "broken")
        receipt = await a.mesh.broadcast(NEWS, Payload(b"x"), timeout_s=20.0)
        assert receipt.is_complete
        assert receipt.acknowledged == ("b",)
        assert receipt.gone == ("c",)
        assert heard == [("a", b"x")]


async def test_an_operators_word_names_those_who_have_not_taken_it_in() -> None:
    async with cluster("a", "b") as (nodes, _):
        a, b = nodes
        agent = b.part.agent
        agent.broadcasts._handlers.clear()  # as in a version that knows no such topic
        order = PoolName("app"), BackendName("s1"), BackendState.DRAINING
        receipt = await a.mesh.set_backend_state(*order)
        assert receipt.waiting_for == ("b",)
        await until(lambda: len(a.words) == 1)
