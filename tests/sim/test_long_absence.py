"""A member that lives through a long cut brings back nothing that was deleted meanwhile.

Deleted: by an operator, on the other side, while clients of this side went on using it. The cut
lasts for longer than a tombstone is kept when nobody is away.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S
from meshlb.model import NodeName, SessionKey
from tests.sim.mesh.plan import Fault, Step, draw_plan
from tests.sim.mesh.process import Process
from tests.sim.mesh.quiet import quiet
from tests.sim.mesh.trial import Trial

TTL_S = 1_200.0
USED_EVERY_S = 500.0
CUT_AT_S = 10.0
CUT_S = TTL_S + TOMBSTONE_GRACE_S + 1_500.0
MENDED_S = 60.0
KEYS = 6
SEED = 1

Sides = tuple[tuple[NodeName, ...], tuple[NodeName, ...]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


def names(*numbers: int) -> tuple[NodeName, ...]:
    return tuple(NodeName(f"n{number}") for number in numbers)


def trial_of(sides: Sides) -> Trial:
    plan = draw_plan(SEED, nodes=sum(map(len, sides)), steps=60)
    plan = replace(plan, ttl_s=TTL_S, is_single=False, is_coded=False, faults=(), steps=())
    trial = Trial(plan)
    trial.world.steps_max = 2_000_000
    trial.mesh.start_all()
    return trial


def play(trial: Trial, sides: Sides) -> None:
    """Pin keys, cut, delete each on one side, and use it all the time on the other."""
    one, other = sides
    for number in range(KEYS):
        trial._plan_step(Step(5.0, "request", one[0], number))
    ways = tuple(product(one, other)) + tuple(product(other, one))
    trial._plan_fault(Fault(CUT_AT_S, "cut", CUT_S, ways=ways))
    for number in range(KEYS):
        deleter, user = (one, other) if number % 2 else (other, one)
        trial._plan_step(Step(CUT_AT_S + 30.0, "unpin", deleter[0], number))
        at = CUT_AT_S
        while at < CUT_AT_S + CUT_S:
            trial._plan_step(Step(at, "request", user[-1], number))
            at += USED_EVERY_S


def live_keys(process: Process) -> set[SessionKey]:
    now = process.table_now()
    return {key for key, pin in process.store.records().items() if pin.is_live(now)}


@pytest.mark.parametrize(
    "sides",
    [(names(0, 1), names(2)), (names(0, 1), names(2, 3))],
    ids=["two-and-one", "two-and-two"],
)
def test_what_one_side_has_deleted_stays_deleted_though_the_other_side_used_it(
    sides: Sides,
) -> None:
    trial = trial_of(sides)
    play(trial, sides)
    trial.world.run(CUT_AT_S + CUT_S - 1.0)
    users = [side[-1] for side in sides]
    in_use = [live_keys(trial.mesh.hosts[name].process) for name in users]  # type: ignore[arg-type]  # runs
    assert [len(keys) for keys in in_use] == [KEYS // 2] * 2
    trial.world.run(CUT_AT_S + CUT_S + MENDED_S)
    for process in trial.mesh.processes():
        assert len(process.membership.ownership.owners) == sum(map(len, sides))
        assert live_keys(process) == set()
