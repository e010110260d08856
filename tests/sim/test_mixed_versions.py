"""Nodes of this version and of the one before keep the invariants, in both restart orders."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.sim.mesh.links import SimLink
from tests.sim.mesh.plan import draw_plan
from tests.sim.mesh.quiet import quiet
from tests.sim.mesh.rolling import Direction, rolling_plan
from tests.sim.mesh.tongues import BEFORE, TODAY, Tongue
from tests.sim.mesh.trial import Trial, run_plan

SEEDS = 30
SEEDS_PER_TEST = 10


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_a_mesh_that_is_restarted_into_another_version_keeps_every_invariant(
    first: int, direction: Direction
) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        result = run_plan(rolling_plan(draw_plan(seed), direction))
        assert not result.violation, f"seed {seed} {direction}: {result.violation}"


@pytest.mark.parametrize(("direction", "at_last"), [("up", TODAY), ("down", BEFORE)])
def test_hosts_go_over_and_links_between_versions_speak_the_one_before(
    direction: Direction, at_last: Tongue
) -> None:
    trial = Trial(rolling_plan(draw_plan(1), direction))
    spoken: Counter[int] = Counter()
    look = trial.judge.look

    def look_at_links() -> None:
        look()
        for process in trial.mesh.processes():
            spoken.update(link.dialect.version for link in process.links.all())

    trial.judge.look = look_at_links  # type: ignore[method-assign]  # looks at more
    assert not trial.run().violation
    assert spoken[1] > 0 < spoken[2]
    assert [process.tongue for process in trial.mesh.processes()].count(at_last) >= 1


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_node_that_says_what_its_peer_does_not_understand_is_noticed(
    direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimLink, "takes", lambda link, kind: True)
    violations = [run_plan(rolling_plan(draw_plan(seed), direction)).violation for seed in range(3)]
    assert all("version 1 has no" in violation for violation in violations)
