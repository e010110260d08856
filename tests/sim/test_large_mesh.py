"""More members than are told one pin at a time: they agree, and need fewer frames for it."""

from dataclasses import replace

from meshlb.cluster.gathering import PEERS_AT_ONCE_MAX
from tests.sim.mesh.plan import Step, draw_plan
from tests.sim.mesh.quiet import quiet
from tests.sim.mesh.settle import check_end, unrest
from tests.sim.mesh.trial import Trial

NODES = PEERS_AT_ONCE_MAX + 2
PINS = 60
STARTED_S = 3.0
PINNED_WITHIN_S = 0.1


def test_a_large_mesh_agrees_and_gathers_what_it_tells() -> None:
    plan = draw_plan(1, nodes=NODES, steps=60)
    plan = replace(plan, ttl_s=1_200.0, is_coded=False, faults=(), steps=(), log_entries_max=65_536)
    trial = Trial(plan)
    trial.world.steps_max = 1_000_000
    with quiet():
        trial.mesh.start_all()
        trial.world.run(STARTED_S)
        assert not unrest(trial.mesh, trial.judge)
        processes = trial.mesh.processes()
        told_before = sum(process.counters.deltas_sent for process in processes)
        for number in range(PINS):
            at = STARTED_S + PINNED_WITHIN_S * number / PINS
            for host in (processes[number % NODES].name, processes[(7 * number + 1) % NODES].name):
                trial._plan_step(Step(at, "request", host, number))
        trial.world.run(STARTED_S + 2.0)
        assert not unrest(trial.mesh, trial.judge)
        check_end(trial.mesh, trial.judge)
    told = sum(process.counters.deltas_sent for process in processes) - told_before
    assert all(len(process.store.records()) == PINS for process in processes)
    assert told < PINS * (NODES - 1), "less than a frame for each pin and peer"
