"""Whole nodes under faults keep every invariant, and a broken core is noticed."""

from collections.abc import Iterator

import pytest

from tests.sim.mesh.mutations import MUTATIONS
from tests.sim.mesh.plan import Plan, draw_plan
from tests.sim.mesh.quiet import quiet
from tests.sim.mesh.scenes import SCENES
from tests.sim.mesh.trial import Result, run_plan

SEEDS = 200
SEEDS_PER_TEST = 20

CAUGHT_BY: dict[str, int | str] = {
    "acknowledges-before-commit": 0,
    "asks-and-does-not-wake": 23,
    "backup-agrees-with-anybody": 55,
    "backup-knows-nothing": "the-home-has-not-heard-of-a-tombstone",
    "believes-in-others-when-alone": 37,
    "confirms-without-ack": 4,
    "expired-pins-live-on": 77,
    "fallback-counts-as-agreed": 0,
    "forgets-in-a-restart-what-is-provisional": "provisional-pins-on-all-disks",
    "forgets-tombstones": 17,
    "gives-up-contacting": 0,
    "knows-the-dead-that-return": "a-home-dies-behind-a-cut",
    "later-stamps-win": 11,
    "loses-held-pins": "only-the-backup-has-it",
    "marks-before-tables-have-met": "both-sides-restart-behind-a-cut",
    "minority-takes-itself-for-a-majority": 3,
    "mistakes-another-boots-position": 0,
    "moves-keep-the-epoch": 10,
    "never-commits": 0,
    "never-refutes": 0,
    "others-raise-incarnations": 0,
    "provisional-beats-agreed": 0,
    "provisional-pins-stay": 6,
    "skips-the-barrier": 1,
    "starts-as-a-cluster-of-its-own": 3,
    "suspects-for-ever": 15,
    "takes-a-link-for-a-member": 8983,
    "takes-deltas-with-gaps": 6,
    "takes-replayed-datagrams": 0,
    "trusts-recordings-of-the-present-start": 9,
    "unlinked-peers-miss-what-is-told": 0,
    "whoever-comes-last-wins": 0,
}
"""A seed, or a plan made by hand, that shows each mutation."""

OTHER_SEEDS = range(40)
"""Tried after that one: which seed shows a mutation changes with the core."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


def plan_of(seed: int | str) -> Plan:
    return SCENES[seed] if isinstance(seed, str) else draw_plan(seed)


def run(seed: int | str) -> Result:
    return run_plan(plan_of(seed))


def shows(name: str, seed: int | str) -> bool:
    with MUTATIONS[name].applied():
        broken = run(seed)
    return bool(broken.violation) and not run(seed).violation


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_nodes_under_faults_keep_every_invariant(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        result = run(seed)
        assert not result.violation, f"replay with {result.plan.replay}: {result.violation}"


@pytest.mark.parametrize("name", SCENES)
def test_nodes_keep_every_invariant_in_a_scene(name: str) -> None:
    assert not run(name).violation


def test_every_mutation_is_to_be_caught() -> None:
    assert CAUGHT_BY.keys() == MUTATIONS.keys()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_core_is_noticed(name: str) -> None:
    seeds = (CAUGHT_BY[name], *OTHER_SEEDS)
    assert any(shows(name, seed) for seed in seeds), f"{name} survived"


def test_one_seed_gives_one_trace() -> None:
    assert run(7).digest == run(7).digest != run(8).digest
