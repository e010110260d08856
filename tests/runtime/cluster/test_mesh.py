from collections import Counter

import pytest
import trio

from meshlb.cluster import joining
from meshlb.cluster.mesh import Mesh
from meshlb.core.sticky.pin import Pin
from meshlb.model import BackendName, BackendState, MemberState, NodeName, PoolName, SessionKey
from meshlb.net.reactor import Reactor
from meshlb.wire.messages import Rank
from tests.runtime.cluster.kit import DictStore, Node, cluster, key_of, owners, proposal, until


async def test_three_members_form_one_view() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        assert all(node.is_synced for node in nodes)
        assert all(node.mesh.is_quorate for node in nodes)


async def test_a_race_for_500_keys_has_one_winner_each_everywhere() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        answers: dict[SessionKey, list[Pin]] = {key_of(n): [] for n in range(500)}

        async def race(node: Node, key: SessionKey) -> None:
            answers[key].append(await node.mesh.table.claim(proposal(key, f"of-{node.mesh.name}")))

        # In waves: what is tested is agreement, not how long an overloaded machine may take.
        keys = list(answers)
        for start in range(0, len(keys), 25):
            async with trio.open_nursery() as racers:
                for key in keys[start : start + 25]:
                    for node in nodes:
                        racers.start_soon(race, node, key)
                        racers.start_soon(race, node, key)
        agreed = {
            key: pins
            for key, pins in answers.items()
            if {pin.rank for pin in pins} == {Rank.QUORATE}
        }
        # A busy machine may not agree in time: those are counted, and told as what they are.
        unsettled = sum(node.mesh.counters.claims["provisional"] for node in nodes)
        assert len(answers) - len(agreed) <= unsettled
        for pins in agreed.values():
            assert len({pin.backend for pin in pins}) == 1
        assert len({pins[0].backend for pins in agreed.values()}) == 3
        await until(lambda: all(len(node.store.pins) == 500 for node in nodes))
        for key, pins in agreed.items():
            assert {node.store.pins[key].backend for node in nodes} == {pins[0].backend}
        assert all(node.mesh.claim_counters.conflicts == 0 for node in nodes)


async def test_what_is_planted_touched_and_unpinned_reaches_everybody() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        a, b, c = nodes
        key = key_of(1)
        planted = a.mesh.table.plant(proposal(key, "s1"))
        await until(lambda: None not in (b.look_up(key), c.look_up(key)))
        found = b.look_up(key)
        assert found is not None
        assert found.backend == planted.backend
        b.mesh.table.touch(key, found, 6_000.0)
        await until(lambda: (a.look_up(key) or planted).expires_at > planted.expires_at + 5_000)
        assert c.mesh.unpin(key)
        assert not c.mesh.unpin(key)
        await until(lambda: a.look_up(key) is b.look_up(key) is None)


async def test_a_stopped_member_is_noticed_and_its_keys_are_kept() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        won = [await nodes[2].mesh.table.claim(proposal(key_of(n), "s1")) for n in range(50)]
        await nodes[2].stop()
        for node in nodes[:2]:
            await until(lambda node=node: node.states()["c"] is MemberState.DEAD)
            for number in range(50):
                pin = await node.mesh.table.claim(proposal(key_of(number), "s2"))
                assert pin.backend == won[number].backend
        fresh = await nodes[0].mesh.table.claim(proposal(key_of(99), "s2"))
        assert fresh.rank is Rank.QUORATE


async def test_a_member_that_leaves_is_gone_at_once() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        pin = await nodes[0].mesh.table.claim(proposal(key_of(1), "s1"))
        await nodes[0].mesh.leave()
        await until(lambda: nodes[1].states()["a"] is MemberState.LEFT)
        await until(lambda: nodes[2].states()["a"] is MemberState.LEFT)
        await nodes[0].stop()
        again = await nodes[1].mesh.table.claim(proposal(key_of(1), "s2"))
        assert again.backend == pin.backend


async def test_a_joining_member_has_the_whole_table_before_it_is_in_sync(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "DISCOVERY_S_MAX", 120.0)  # It does not give up and begin alone.
    async with cluster("a", "b") as (nodes, nursery):
        for number in range(2_000):
            nodes[number % 2].mesh.table.plant(proposal(key_of(number), f"s{number % 3}"))
        late = Node("c", join=[nodes[0].address])
        await nursery.start(late.run)
        await until(lambda: late.is_synced)
        assert len(late.store.pins) == 2_000
        assert late.mesh.counters.pins_pulled >= 2_000
        await until(lambda: all(owners(node) == 3 for node in nodes))


async def test_a_restarted_member_takes_its_name_and_table_again() -> None:
    async with cluster("a", "b", "c") as (nodes, nursery):
        pin = await nodes[0].mesh.table.claim(proposal(key_of(1), "s1"))
        await nodes[2].stop()
        again = Node("c", join=[nodes[0].address], bind=nodes[2].address, pins=nodes[2].store.pins)
        await nursery.start(again.run)
        await until(lambda: again.is_synced)
        found = again.look_up(key_of(1))
        assert found is not None
        assert found.backend == pin.backend
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in (*nodes[:2], again)))


async def test_nodes_that_start_with_pins_from_their_disks_end_with_the_union() -> None:
    store = DictStore()
    alone = Mesh(NodeName("x"), cluster=None, store=store, reactor=Reactor())
    for number in range(30):
        alone.table.plant(proposal(key_of(number), "s1"))
    pins = list(store.pins.items())
    async with trio.open_nursery() as nursery:
        nodes: list[Node] = []
        for index, name in enumerate("abc"):
            disk = dict(pins[index * 10 : index * 10 + 10])
            nodes.append(Node(name, join=[node.address for node in nodes], pins=disk))
        for node in nodes:
            await nursery.start(node.run)
        await until(lambda: all(owners(node) == 3 for node in nodes))
        await until(lambda: all(len(node.store.pins) == 30 for node in nodes))
        nursery.cancel_scope.cancel()


async def test_an_operators_word_reaches_members_of_now_and_later() -> None:
    app, s1 = PoolName("app"), BackendName("s1")
    async with cluster("a", "b") as (nodes, nursery):
        receipt = await nodes[0].mesh.set_backend_state(app, s1, BackendState.DRAINING)
        assert receipt.acknowledged == ("b",)
        assert receipt.is_complete
        assert all(node.words for node in nodes), "who has acknowledged it has heard it"
        assert [word.state for word in nodes[0].words] == [BackendState.DRAINING]
        await until(lambda: bool(nodes[1].words))
        await nodes[1].mesh.set_backend_state(app, s1, BackendState.UP)
        await until(lambda: nodes[0].words[-1].state is BackendState.UP)
        late = Node("c", join=[nodes[1].address])
        await nursery.start(late.run)
        await until(lambda: bool(late.words))
        assert late.words[-1].state is BackendState.UP
        assert len(late.mesh.overrides()) == 1


async def test_a_node_that_stands_alone_claims_at_itself_and_opens_no_socket() -> None:
    store = DictStore()
    reactor = Reactor()
    mesh = Mesh(NodeName("solo"), cluster=None, store=store, reactor=reactor)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await nursery.start(mesh.run)
        first = await mesh.table.claim(proposal(key_of(1), "s1"))
        second = await mesh.table.claim(proposal(key_of(1), "s2"))
        assert (first.backend, second.backend) == ("s1", "s1")
        assert first.rank is Rank.QUORATE
        assert mesh.readiness() == (True, "")
        assert [member.name for member in mesh.members()] == ["solo"]
        story = mesh.explain(key_of(1))
        assert story is not None
        assert story.home == "solo"
        assert [note.what for note in story.notes] == ["pinned to s1 by solo, epoch 0"]
        nursery.cancel_scope.cancel()


async def test_a_moved_pin_tells_its_history_on_every_node() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        key = key_of(7)
        first = await nodes[0].mesh.table.claim(proposal(key, "s1"))
        move = proposal(key, "s2")
        moved = await nodes[1].mesh.table.claim(
            type(move)(
                key=key,
                pool=move.pool,
                backend=move.backend,
                by=move.by,
                ttl_s=move.ttl_s,
                max_age_s=None,
                moved_from=first.backend,
                moved_from_epoch=first.epoch,
            )
        )
        assert (moved.backend, moved.epoch) == ("s2", 1)
        for node in nodes:
            await until(lambda node=node: node.mesh.explain(key).pin.epoch == 1)
            story = node.mesh.explain(key)
            assert story is not None
            assert "to s2 by b, epoch 1" in story.notes[-1].what
        assert len({(n.mesh.explain(key).home, n.mesh.explain(key).backup) for n in nodes}) == 1


async def test_keys_spread_over_all_homes() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        for number in range(90):
            nodes[0].mesh.table.plant(proposal(key_of(number), "s1"))
        stories = [nodes[0].mesh.explain(key_of(number)) for number in range(90)]
        homes = Counter(story.home for story in stories if story is not None)
        assert set(homes) == {"a", "b", "c"}
