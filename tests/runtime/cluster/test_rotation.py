"""The secrets of a running cluster change, and nobody falls out who should not."""

import socket
from pathlib import Path

import pytest
import trio

from meshlb.cluster.links import Links
from meshlb.model import ClusterSecret
from meshlb.wire.seal import key_id_of
from tests.runtime.cluster.kit import SECRET, Node, cluster, key_of, proposal, until

NEW = ClusterSecret(b"n" * 32)
OLD_ID, NEW_ID = key_id_of(SECRET), key_id_of(NEW)
NAMES = ("a", "b", "c")


def links_of(node: Node) -> Links:
    return node.part.links


async def install_and_use(nodes: list[Node]) -> None:
    """The first two steps, each at another node."""
    names = [node.mesh.name for node in nodes]
    nodes[0].keys.install(NEW)
    await until(lambda: all(holds(nodes[1], node, NEW_ID) for node in nodes))
    nodes[1].keys.use(NEW_ID, live=names, force=False)
    await until(lambda: all(seals_with(n, node, NEW_ID) for n in nodes for node in nodes))


async def rotate(nodes: list[Node]) -> None:
    """All three steps."""
    await install_and_use(nodes)
    names = [node.mesh.name for node in nodes]
    nodes[-1].keys.remove(OLD_ID, members=names, force=False)
    await until(lambda: all(node.keys.keyring.secrets == (NEW,) for node in nodes))


def holds(asked: Node, about: Node, key_id: bytes) -> bool:
    report = asked.keys.report(about.mesh.name)
    return report is not None and key_id in report.held


def seals_with(asked: Node, about: Node, key_id: bytes) -> bool:
    report = asked.keys.report(about.mesh.name)
    return report is not None and report.sealing == key_id


async def test_links_follow_the_secret_in_use_before_the_old_one_goes() -> None:
    async with cluster(*NAMES) as (nodes, _):
        await install_and_use(nodes)
        await until(
            lambda: all(
                len(links_of(node).all()) == len(nodes) - 1
                and all(link.key_id == NEW_ID for link in links_of(node).all())
                for node in nodes
            )
        )
        await until(lambda: all(node.sees_alive(*NAMES) for node in nodes))
        assert all(set(node.mesh.counters.links_closed) == {"replaced"} for node in nodes)


async def test_claims_go_on_through_a_rotation_and_no_pin_is_provisional() -> None:
    async with cluster(*NAMES) as (nodes, nursery):
        number = 0
        is_over = False

        async def claim() -> None:
            nonlocal number
            while not is_over:
                number += 1
                await nodes[number % 3].mesh.table.claim(proposal(key_of(number), "s1"))
                await trio.sleep(0.001)

        nursery.start_soon(claim)
        await rotate(nodes)
        await until(
            lambda: all(link.key_id == NEW_ID for node in nodes for link in links_of(node).all())
        )
        is_over = True
        assert number > 1
        for node in nodes:
            assert node.mesh.counters.claims["provisional"] == 0
            assert node.mesh.claim_counters.conflicts == 0


async def test_whoever_has_only_a_removed_secret_is_refused() -> None:
    async with cluster("a", "b") as (nodes, nursery):
        await rotate(nodes)
        stranger = Node("z", join=[nodes[0].address])
        await nursery.start(stranger.run)
        await until(lambda: stranger.mesh.counters.refused_by_peers["other-secret"] >= 2)
        assert not stranger.is_synced
        assert "other-secret" in stranger.mesh.readiness()[1]
        await until(lambda: all(node.sees_alive("a", "b") for node in nodes))


async def test_a_datagram_under_a_removed_secret_changes_nothing_and_is_counted() -> None:
    async with cluster("a", "b") as (nodes, _):
        recorded = nodes[1].sealed_ping_to(nodes[0])
        await rotate(nodes)
        counters = nodes[0].mesh.counters
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(recorded, (nodes[0].address.host, nodes[0].address.port))
            await until(lambda: counters.datagrams_refused["key"] == 1)


async def test_a_removal_by_force_at_once_costs_no_member_its_place() -> None:
    async with cluster("a", "b") as (nodes, _):
        names = [node.mesh.name for node in nodes]
        nodes[0].keys.install(NEW)
        await until(lambda: holds(nodes[0], nodes[1], NEW_ID))
        nodes[0].keys.use(NEW_ID, live=names, force=False)
        nodes[0].keys.remove(OLD_ID, members=names, force=True)
        await until(
            lambda: all(
                [link.key_id for link in links_of(node).all()] == [NEW_ID] for node in nodes
            )
        )
        await until(lambda: all(node.sees_alive("a", "b") for node in nodes))


async def test_a_node_that_was_away_catches_up_with_one_secret_in_common(tmp_path: Path) -> None:
    async with cluster("a", "b") as (nodes, nursery):
        await install_and_use(nodes)
        late = Node("c", join=[nodes[0].address], data_dir=tmp_path)
        await nursery.start(late.run)
        await until(lambda: late.is_synced)
        assert late.keys.keyring.secrets == (NEW, SECRET)
        await until(lambda: seals_with(nodes[0], late, NEW_ID))
        await late.stop()
        # Away while the secret goes that its configuration has: its disk has the other one.
        nodes[0].keys.remove(OLD_ID, members=[node.mesh.name for node in nodes], force=False)
        again = Node("c", join=[nodes[0].address], data_dir=tmp_path)
        await nursery.start(again.run)
        await until(lambda: again.is_synced and again.keys.keyring.secrets == (NEW,))


@pytest.mark.parametrize("with_disk", [True, False])
async def test_the_hash_key_survives_a_rotation_and_is_a_joiners_before_it_is_in_sync(
    tmp_path: Path, with_disk: bool
) -> None:
    async with cluster("a", "b") as (nodes, nursery):
        first = nodes[0].keys.hash_key
        await rotate(nodes)
        assert {node.keys.hash_key for node in nodes} == {first}
        joiner = Node(
            "c", join=[nodes[0].address], secrets=(NEW,), data_dir=tmp_path if with_disk else None
        )
        assert joiner.keys.hash_key != first
        when_synced: list[bytes] = []

        async def watch() -> None:
            await until(lambda: joiner.is_synced)
            when_synced.append(joiner.keys.hash_key)

        nursery.start_soon(watch)
        await nursery.start(joiner.run)
        await until(lambda: bool(when_synced))
        assert when_synced == [first]
        assert {node.keys.hash_key for node in nodes} == {first}
