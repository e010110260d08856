"""Cuts a failing plan down to what it takes to fail (delta debugging).

Owns: the search. Must not know: what a fault is.
"""

from collections.abc import Callable
from dataclasses import replace

from tests.sim.mesh.plan import Plan
from tests.sim.mesh.trial import Result, run_plan

RUNS_MAX = 250


def kind_of(violation: str) -> str:
    """What two violations of one kind have in common: the invariant, or the error's last line."""
    if violation.startswith("invariant"):
        return violation.partition(" at ")[0]
    return violation.strip().splitlines()[-1][:60]


class Shrinker:
    """Finds a smaller plan that fails in the same way."""

    def __init__(self, result: Result) -> None:
        self.best = result
        self._kind = kind_of(result.violation)
        self._runs_left = RUNS_MAX

    def shrink(self) -> Result:
        """The result of the smallest plan found."""
        self._reduce(len(self.best.plan.faults), self._with_faults)
        self._reduce(len(self.best.plan.steps), self._with_steps)
        self._reduce(len(self.best.plan.faults), self._with_faults)
        return self.best

    def _with_faults(self, plan: Plan, kept: range, left_out: range) -> Plan:
        return replace(plan, faults=tuple(plan.faults[i] for i in kept if i not in left_out))

    def _with_steps(self, plan: Plan, kept: range, left_out: range) -> Plan:
        return replace(plan, steps=tuple(plan.steps[i] for i in kept if i not in left_out))

    def _reduce(self, count: int, without: Callable[[Plan, range, range], Plan]) -> None:
        """Leave out halves, quarters and so on, for as long as the plan still fails."""
        size = (count + 1) // 2
        while size and self._runs_left > 0:
            start = 0
            while start < count and self._runs_left > 0:
                left_out = range(start, min(start + size, count))
                if self._fails(without(self.best.plan, range(count), left_out)):
                    count -= len(left_out)
                else:
                    start += size
            size = size // 2

    def _fails(self, plan: Plan) -> bool:
        self._runs_left -= 1
        result = run_plan(plan)
        if result.violation and kind_of(result.violation) == self._kind:
            self.best = result
            return True
        return False


def shrink(result: Result) -> Result:
    """The smallest plan found that fails as `result` does, and what it showed."""
    return Shrinker(result).shrink()
