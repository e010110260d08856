"""Plans in which the hosts of a mesh are restarted one after another into another version.

Owns: when each host goes over, and how it stops before. All else is the plan of the seed: its
requests, its faults, its timings. Must not know: how anything of it is done.
"""

from dataclasses import replace
from random import Random
from typing import Final, Literal

from tests.sim.mesh.plan import FIRST_FAULT_S, Fault, Plan
from tests.sim.mesh.tongues import BEFORE, TODAY

Direction = Literal["up", "down"]
"""From the version before to today's, or back."""

DOWN_S: Final = 0.8
"""How long a restart takes at the least."""


def rolling_plan(plan: Plan, direction: Direction) -> Plan:
    """`plan`, with every host restarted into the other version on the way.

    Of some seeds only a part of the hosts goes over, so that the mesh stays mixed to the end.
    """
    rng = Random(f"{plan.seed}/{direction}")
    first, then = (BEFORE, TODAY) if direction == "up" else (TODAY, BEFORE)
    hosts = rng.sample(plan.hosts, len(plan.hosts))
    if rng.random() < 0.3:
        hosts = hosts[: rng.randint(1, len(hosts))]
    restarts = []
    at = FIRST_FAULT_S
    for host in hosts:
        at += rng.random() * 2 * (plan.lasts_s - FIRST_FAULT_S) / (len(hosts) + 1)
        restarts.append(
            Fault(
                at,
                rng.choice(("leave", "leave", "crash")),
                DOWN_S + rng.random() * 3,
                host,
                tongue=then,
                is_power_lost=rng.random() < 0.2,
            )
        )
    faults = () if plan.is_single else plan.faults
    return replace(
        plan,
        tongue=first,
        is_single=False,
        faults=tuple(sorted((*faults, *restarts), key=lambda fault: fault.at)),
        lasts_s=max(plan.lasts_s, at + DOWN_S),
        replay=f"{plan.replay} ROLL={direction}",
    )
