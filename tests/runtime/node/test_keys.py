"""Orders about secrets, as the admin API gives them to a node of a real mesh."""

import pytest

from meshlb.admin.view import AdminError
from meshlb.cluster.mesh import Mesh
from meshlb.model import ClusterSecret, NodeName
from meshlb.net.reactor import Reactor
from meshlb.node.keys import KeyOrders
from meshlb.wire.seal import key_id_of
from tests.runtime.cluster.kit import SECRET, DictStore, cluster, until

NEW = ClusterSecret(b"n" * 32)
OLD_ID, NEW_ID = key_id_of(SECRET), key_id_of(NEW)


async def refused(order: object) -> tuple[int, str]:
    with pytest.raises(AdminError) as caught:
        await order  # type: ignore[misc]  # a coroutine
    return caught.value.status, caught.value.code


async def test_each_step_returns_with_the_word_of_every_live_member() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        one, other = KeyOrders(nodes[0].mesh), KeyOrders(nodes[1].mesh)
        for step in (await one.install(NEW), await other.use(NEW_ID, force=False)):
            assert step.id == NEW_ID.hex()
            assert step.acknowledged == ("a", "b", "c")
            assert step.waiting_for == step.away == ()
        (new, old) = one.all()
        assert (new.id, new.sealing, old.sealing) == (NEW_ID.hex(), True, False)
        assert set(new.members.values()) == {"sealing"}
        assert set(old.members.values()) == {"held"}
        assert (await one.remove(OLD_ID, force=False)).acknowledged == ("a", "b", "c")
        assert [key.id for key in one.all()] == [NEW_ID.hex()]


async def test_a_member_that_died_is_named_and_keeps_a_removal_waiting() -> None:
    async with cluster("a", "b") as (nodes, _):
        orders = KeyOrders(nodes[0].mesh)
        await nodes[1].stop()
        await until(lambda: nodes[0].states()["b"].name == "DEAD")
        step = await orders.install(NEW)
        assert (step.acknowledged, step.waiting_for, step.away) == (("a",), (), ("b",))
        assert (await orders.use(NEW_ID, force=False)).away == ("b",)
        assert await refused(orders.remove(OLD_ID, force=False)) == (409, "in_use")
        assert (await orders.remove(OLD_ID, force=True)).acknowledged[0] == "a"


async def test_refused_orders_say_why() -> None:
    async with cluster("a") as (nodes, _):
        orders = KeyOrders(nodes[0].mesh)
        assert await refused(orders.use(NEW_ID, force=True)) == (404, "unknown_key")
        assert await refused(orders.remove(NEW_ID, force=True)) == (404, "unknown_key")
        assert await refused(orders.remove(OLD_ID, force=True)) == (409, "in_use")


async def test_a_node_that_stands_alone_has_no_secrets_to_rotate() -> None:
    orders = KeyOrders(Mesh(NodeName("solo"), cluster=None, store=DictStore(), reactor=Reactor()))
    assert orders.all() == ()
    assert await refused(orders.install(NEW)) == (409, "alone")
