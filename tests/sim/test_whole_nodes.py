"""Whole nodes under faults keep every invariant, and a broken core is noticed."""

from collections.abc import Iterator

import pytest

from tests.sim.mesh.mutations import MUTATIONS
from tests.sim.mesh.plan import draw_plan
from tests.sim.mesh.quiet import quiet
from tests.sim.mesh.trial import Result, run_plan

SEEDS = 200
SEEDS_PER_TEST = 20

CAUGHT_BY = {
    "acknowledges-before-commit": 0,
    "backup-agrees-with-anybody": 6,
    "confirms-without-ack": 4,
    "expired-pins-live-on": 0,
    "fallback-counts-as-agreed": 0,
    "forgets-tombstones": 17,
    "later-stamps-win": 11,
    "moves-keep-the-epoch": 10,
    "never-commits": 0,
    "provisional-beats-agreed": 0,
    "skips-the-barrier": 1,
    "takes-deltas-with-gaps": 6,
    "whoever-comes-last-wins": 0,
}
"""A seed for each mutation that shows it; the others need `python -m tests.sim --mutation`."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


def run(seed: int) -> Result:
    return run_plan(draw_plan(seed, nodes=None, steps=None))


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_nodes_under_faults_keep_every_invariant(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        result = run(seed)
        assert not result.violation, f"replay with {result.plan.replay}: {result.violation}"


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_broken_core_is_noticed(name: str) -> None:
    seed = CAUGHT_BY[name]
    assert not run(seed).violation
    with MUTATIONS[name].applied():
        assert run(seed).violation


def test_one_seed_gives_one_trace() -> None:
    assert run(7).digest == run(7).digest != run(8).digest
