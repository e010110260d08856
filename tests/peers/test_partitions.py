"""Nodes that are cut off each other and come together again, on a network of namespaces."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.harness.child import wait_until
from tests.peers.harness.http import fetch
from tests.peers.harness.network import Network
from tests.peers.harness.site import Site
from tests.peers.harness.views import assert_one_answer_each, states_seen, total, wait_agreed
from tests.peers.test_agreement import ask_everybody
from tests.peers.test_failures import ask_anybody

HEAL_S = 10.0
"""What a heal should take; printed, not asserted."""

LONG_CUT_S = 20.0

STREAM_GIVEN_UP_S = 12.0
"""A little longer than a stream may be silent."""

StartSite = Callable[..., Site]


@pytest.fixture
def start_site(tmp_path: Path) -> Iterator[StartSite]:
    """`start_site(size=3, mode="available")`: a ready mesh on a network of its own."""
    with Network() as network:
        yield lambda **options: Site.build(network, tmp_path, **options)


def keys(word: str, count: int) -> list[str]:
    return [f"{word}-{number}" for number in range(count)]


def pinned(site: Site, count: int) -> dict[str, str]:
    """The backends of that many keys, on each of which the cluster has agreed."""
    site.run(ask_anybody(site.mesh.doors, keys("old", count)))
    wait_agreed(site.mesh.nodes)
    return site.run(ask_anybody(site.mesh.doors, keys("old", count)))


def heal(site: Site, what: str) -> None:
    print(f"{what}: one view and equal tables after {site.heal():.1f} s (promise: {HEAL_S} s)")


def test_a_long_cut_in_which_a_backend_dies_moves_only_what_has_to_move(
    start_site: StartSite,
) -> None:
    site = start_site(size=3)
    *majority, minority = site.mesh.nodes
    doors = [node.door for node in majority]
    split = keys("split", 100)
    before = pinned(site, 200)
    old = list(before)

    site.cut([0, 1], [2])
    cut_at = time.monotonic()
    site.wait_cut([0, 1], [2])
    assert site.run(ask_anybody([minority.door], old)) == before, "old pins are followed"
    there = site.run(ask_anybody([minority.door], split))
    here = site.run(ask_anybody(doors, split))

    dead = site.backends[0]
    dead.kill()
    for node in site.mesh.nodes:
        wait_until(lambda node=node: node.backend_states()["s1"] == "down", "s1 is down")
    moved_there = site.run(ask_anybody([minority.door], old))

    def have_all_moved() -> bool:
        """A move that did not end in time is tried again with the next use."""
        site.run(ask_anybody(doors, [*old, *split]))
        return all(pin[0] != "s1" for node in majority for pin in node.pins().values())

    wait_until(have_all_moved, "nobody is pinned to s1 in the majority")
    moved_here = site.run(ask_anybody(doors, [*old, *split]))
    for key in old:
        if before[key] != "s1":
            assert moved_there[key] == moved_here[key] == before[key], f"{key} moved"
    # Whom nobody has reached for long is dialled seldom.
    time.sleep(max(0.0, cut_at + LONG_CUT_S - time.monotonic()))
    for side in (majority, [minority]):
        wait_agreed(side)
    pins_here, pins_there = majority[0].pins(), minority.pins()
    assert not any(epoch for _, epoch, _ in pins_there.values()), "a minority has raised an epoch"
    heal(site, "a long cut of one node of three")
    (seen,) = minority.heals()

    # The majority's word holds, for what it moved and for what both sides began.
    assert site.run(ask_everybody(site.mesh.doors, [*old, *split], per_node=1)) == {
        key: {backend} for key, backend in moved_here.items()
    }
    assert total(site.mesh.nodes, "conflict") == 0
    replaced = {
        key: (pin[0], pins_here[key][0])
        for key, pin in pins_there.items()
        if pins_here[key][0] != pin[0]
    }
    assert {
        move["key"]: (move["moved_from"], move["moved_to"]) for move in seen["moves"]
    } == replaced
    assert seen["pins_moved"] == len(replaced) > 0
    assert set(seen["members"]) == {node.name for node in majority}
    assert here != there, "both sides chose alike: the cut was none"


def test_a_strict_minority_refuses_new_sessions_and_takes_them_after_the_heal(
    start_site: StartSite,
) -> None:
    site = start_site(size=3, mode="strict")
    *majority, minority = site.mesh.nodes
    before, new = pinned(site, 150), keys("new", 100)
    old = list(before)

    site.cut([0, 1], [2])
    site.wait_cut([0, 1], [2])
    assert site.run(ask_anybody([minority.door], old)) == before
    for fields in ({"X-Session": new[0]}, {}):
        refused = site.run(fetch(minority.door, fields=fields))
        assert (refused.status, refused.field("retry-after") is not None) == (503, True)
    began = site.run(ask_anybody([node.door for node in majority], new))
    heal(site, "a cut in strict mode")

    everything = {key: {backend} for key, backend in (before | began).items()}
    assert site.run(ask_everybody(site.mesh.doors, [*old, *new], per_node=1)) == everything
    assert [heal["pins_moved"] for node in site.mesh.nodes for heal in node.heals()] == [0, 0, 0]

    # A cable that is pulled takes the backends away as well.
    site.network.unplug(site.hosts[2])
    site.wait_cut([0, 1], [2])
    began_at = time.monotonic()
    site.network.plug(site.hosts[2])
    took_s = site.wait_whole(began_at)
    print(
        f"an unplugged node: one view and equal tables after {took_s:.1f} s (promise: {HEAL_S} s)"
    )
    wait_until(lambda: set(minority.backend_states().values()) == {"up"}, "the backends are back")
    assert site.run(ask_everybody(site.mesh.doors, [*old, *new], per_node=1)) == everything
    assert total(site.mesh.nodes, "conflict") == 0


def test_five_nodes_fall_into_two_parts_and_then_into_three_and_heal(
    start_site: StartSite,
) -> None:
    site = start_site(size=5)
    nodes = site.mesh.nodes
    before = pinned(site, 100)
    old = list(before)

    expected = dict(before)
    for sides in ([[0, 1, 2], [3, 4]], [[0, 1], [2, 3], [4]]):
        site.cut(*sides)
        site.wait_cut(*sides)
        fresh = keys(f"split-{len(sides)}", 60)
        began = []
        for side in sides:
            doors = [nodes[index].door for index in side]
            assert site.run(ask_anybody(doors, old)) == before
            began.append(site.run(ask_everybody(doors, fresh, per_node=2)))
            assert_one_answer_each(began[-1], [nodes[index] for index in side])
        heal(site, "a cut into " + "+".join(str(len(side)) for side in sides))
        after = site.run(ask_everybody(site.mesh.doors, [*expected, *fresh], per_node=1))
        assert all(len(backends) == 1 for backends in after.values())
        if len(sides) == 2:
            assert all(after[key] <= began[0][key] for key in fresh), "the majority's pins hold"
        for key in fresh:
            assert any(after[key] <= side[key] for side in began)
        assert {key: after[key] for key in expected} == {
            key: {backend} for key, backend in expected.items()
        }
        expected |= {key: backend for key in fresh for backend in after[key]}
    assert total(nodes, "conflict") == 0


def test_members_that_some_cannot_reach_are_not_taken_for_dead_while_others_can(
    start_site: StartSite,
) -> None:
    site = start_site(size=5)
    nodes, (a, b, c, d, _) = site.mesh.nodes, site.hosts
    site.network.cut([a], [b])
    site.network.cut_one_way([c], [d])

    # Long enough for the streams between them to break.
    states = states_seen(nodes, STREAM_GIVEN_UP_S)
    during = site.run(ask_everybody(site.mesh.doors, keys("new", 100), per_node=1))

    assert states <= {"alive", "suspect"}
    split = sum(len(backends) > 1 for backends in during.values())
    print(f"{split} of {len(during)} keys were provisional and split while two pairs were cut")
    heal(site, "two cuts between members that others could reach")
    after = site.run(ask_everybody(site.mesh.doors, list(during), per_node=1))
    assert all(len(backends) == 1 for backends in after.values())
    assert all(after[key] <= during[key] for key in during)
    assert [node.heals() for node in nodes] == [[]] * 5, "nobody was dead to anybody"
    assert total(nodes, "conflict") == 0


def test_a_node_that_nobody_hears_is_dead_to_the_others_and_comes_back(
    start_site: StartSite,
) -> None:
    site = start_site(size=3)
    (mute, *others), (a, b, c) = site.mesh.nodes, site.hosts
    before, new = pinned(site, 100), keys("new", 60)
    old = list(before)
    site.network.cut_one_way([a], [b, c])
    for node in others:
        wait_until(lambda node=node: node.members()[mute.name] == "dead", f"{mute.name} is dead")
    began = site.run(ask_everybody([node.door for node in others], new, per_node=1))
    assert_one_answer_each(began, others)
    assert site.run(ask_anybody([mute.door], old)) == before
    heal(site, "a node that nobody heard")

    after = site.run(ask_everybody(site.mesh.doors, [*old, *new], per_node=1))
    assert {key: after[key] for key in old} == {key: {before[key]} for key in old}
    assert all(len(after[key]) == 1 and after[key] <= began[key] for key in new)
    assert total(site.mesh.nodes, "conflict") == 0
