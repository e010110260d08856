"""One run: a plan is carried out, judged, healed and judged again.

Owns: the course of a run and its result. Must not know: what is done with results.
"""

import traceback
from dataclasses import dataclass, field

from meshlb.model import NodeName
from tests.sim.mesh.clients import Clients
from tests.sim.mesh.judge import Judge, Violation
from tests.sim.mesh.ledger import Books
from tests.sim.mesh.mesh import SimMesh
from tests.sim.mesh.plan import Fault, Plan, Step
from tests.sim.mesh.settle import check_end, unrest
from tests.sim.mesh.world import Storm, World

REST_S_MAX = 30.0
"""The mesh is at rest this long after the last fault at the latest."""

LOOK_S = 0.5


@dataclass
class Result:
    """What a run showed."""

    plan: Plan
    violation: str = ""
    digest: str = ""
    steps: int = 0
    answers: int = 0
    rest_s: float = 0.0
    explained: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class Trial:
    """A run of one plan."""

    def __init__(self, plan: Plan, *, is_detailed: bool = False) -> None:
        self.plan = plan
        self.world = World(plan.seed, is_detailed=is_detailed)
        self.judge = Judge()
        self.mesh = SimMesh(plan, self.world, self.judge)
        self.judge.attend(self.mesh)
        self.clients = Clients(plan, self.mesh, self.judge)

    @property
    def books(self) -> Books:
        return self.judge.books

    def run(self) -> Result:
        """Carry the plan out."""
        result = Result(self.plan)
        try:
            self._go(result)
        except Violation as violation:
            result.violation = str(violation)
        except Storm:
            result.violation = f"invariant 13 at {self.world.now:.3f} s: a storm of messages"
        except Exception:  # a node that raises is a finding as well
            result.violation = f"at {self.world.now:.3f} s: " + traceback.format_exc()
        result.digest = self.world.trace_digest()
        result.steps = self.world.steps
        result.answers = self.judge.answers
        result.explained = self.books.explained
        result.lines = self.world.lines
        return result

    def _go(self, result: Result) -> None:
        self.mesh.start_all()
        for step in self.plan.steps:
            self._plan_step(step)
        for fault in self.plan.faults:
            self._plan_fault(fault)
        self._run_until(self.plan.lasts_s)
        self.mesh.heal()
        self.clients.recover_all()
        healed_at = self.world.now
        self._rest(healed_at)
        result.rest_s = self.world.now - healed_at
        check_end(self.mesh, self.judge)
        self._use_again()
        self._rest(self.world.now)
        check_end(self.mesh, self.judge)

    def _plan_step(self, step: Step) -> None:
        self.world.at(step.at, lambda: self.clients.do(step))

    def _plan_fault(self, fault: Fault) -> None:
        def befall() -> None:
            self.mesh.do(fault)
            self.clients.befall(fault)

        self.world.at(fault.at, befall)

    def _run_until(self, until: float) -> None:
        while self.world.now < until:
            self.world.run(min(until, self.world.now + LOOK_S))
            self.judge.look()

    def _rest(self, since: float) -> None:
        """Wait until the mesh is at rest (invariant 10)."""
        while why := unrest(self.mesh, self.judge):
            if self.world.now > since + REST_S_MAX:
                self.judge.fail(10, f"no rest {REST_S_MAX:.0f} s after the last fault: {why}")
            self._run_until(self.world.now + LOOK_S)

    def _use_again(self) -> None:
        """Each node is asked for old keys and new ones."""
        now = self.world.now
        hosts = [process.name for process in self.mesh.processes()]
        for number in range(8):
            for place, host in enumerate(hosts):
                self._ask(now + 0.1 * number, host, number)
                # One client: it has the answer of one node before it asks the next one.
                at = now + 0.1 * (number + place / len(hosts))
                self._plan_step(Step(at, "cookie", host, number))
                self._ask(now + 0.1 * number, host, 200 + number)
        self._run_until(now + 1.5)

    def _ask(self, at: float, host: NodeName, number: int) -> None:
        self._plan_step(Step(at, "request", host, number))


def run_plan(plan: Plan, *, is_detailed: bool = False) -> Result:
    """Carry out one plan."""
    return Trial(plan, is_detailed=is_detailed).run()
