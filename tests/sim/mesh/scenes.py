"""Plans made by hand, for what chance seldom brings about: the right fault at the right moment.

Owns: the plans and what each is about. Three hosts; which of them is home, backup or neither is
the key's doing.
"""

from itertools import permutations

from meshlb.model import NodeName
from tests.sim.mesh.plan import Fault, Plan, Step

HOSTS = (NodeName("n0"), NodeName("n1"), NodeName("n2"))
FEW = (NodeName("n3"), NodeName("n4"))
"""Two more, who are cut off."""

KEY = 5
HOME, BACKUP, OTHER = NodeName("n1"), NodeName("n0"), NodeName("n2")
"""Of that key, among these hosts (pins O2)."""

SENDS = 5
"""Commits and sends of a home from a claim to the first word that its pin is agreed."""


def _plan(
    name: str,
    faults: tuple[Fault, ...],
    steps: tuple[Step, ...],
    *,
    seed: int = 0,
    hosts: tuple[NodeName, ...] = HOSTS,
    lasts_s: float = 12.0,
    is_single: bool = False,
) -> Plan:
    return Plan(
        seed=seed,
        hosts=hosts,
        lasts_s=lasts_s,
        replay=f"the scene {name!r}",
        profile="local",
        ttl_s=1_200.0,
        is_coded=False,
        log_entries_max=65_536,
        is_single=is_single,
        faults=faults,
        steps=steps,
    )


CUT_OFF_S, RESTART_S, HEAL_S = 2.0, 7.5, 13.0
"""When the majority is alone, starts anew, and meets the others: each knows its own disks only."""

_ACROSS = tuple((one, other) for one in HOSTS for other in FEW)

_MADE = tuple(Step(6.0 + 0.01 * key, "request", HOSTS[key % 3], key) for key in range(150))
"""What the majority agrees on, and nobody of the few ever hears of by a log."""

_ASKED = tuple(Step(HEAL_S + 0.013 * key, "request", FEW[0], key) for key in range(150))
"""Each is asked for once, so that some are in every moment after the heal."""


SCENES = {
    # A node cut off from the home pins without agreement, then all nodes lose power and start
    # alone: who finds the pin on its disk must know that nobody has agreed on it.
    "provisional-pins-on-all-disks": _plan(
        "provisional-pins-on-all-disks",
        (
            Fault(3.0, "cut", 1.1, ways=((OTHER, HOME), (HOME, OTHER))),
            Fault(3.99, "blackout", 0.1, is_power_lost=True),
            Fault(3.99, "cut", 7.0, ways=tuple(permutations(HOSTS, 2))),
        ),
        (Step(3.05, "request", OTHER, KEY),),
    ),
    # The home answers its claimer and dies before it has told anybody else, then the claimer
    # dies as well: of the pin, only what the backup holds is left.
    "only-the-backup-has-it": _plan(
        "only-the-backup-has-it",
        (
            Fault(2.9998, "crash", 2.0, HOME, points=SENDS, is_power_lost=True, is_disk_lost=True),
            Fault(3.05, "crash", 2.0, OTHER, is_power_lost=True, is_disk_lost=True),
        ),
        (Step(3.0, "request", OTHER, KEY),),
    ),
    # A key is unpinned at a node that the backup hears at once and the home a little later.
    # Meanwhile the home moves the key, whose backend is down, and only the backup can tell it.
    "the-home-has-not-heard-of-a-tombstone": _plan(
        "the-home-has-not-heard-of-a-tombstone",
        (
            *(Fault(2.5, "backend", 8.0, backend=name) for name in ("s1", "s2", "s3")),
            Fault(4.4, "slow", 5.0, ways=((OTHER, HOME),), delay_s=0.25),
        ),
        (
            Step(2.0, "request", OTHER, KEY),
            Step(4.5, "unpin", OTHER, KEY),
            Step(4.6, "request", HOME, KEY),
        ),
    ),
    # A majority makes pins behind a cut, then all nodes start anew, still apart, and each side is
    # in sync by itself. When they meet, some of these keys have both holders on the other side.
    "both-sides-restart-behind-a-cut": _plan(
        "both-sides-restart-behind-a-cut",
        (
            Fault(
                CUT_OFF_S,
                "cut",
                HEAL_S - CUT_OFF_S,
                ways=_ACROSS + tuple((other, one) for one, other in _ACROSS),
            ),
            Fault(RESTART_S, "blackout", 0.3),
        ),
        _MADE + _ASKED,
        seed=2,
        hosts=HOSTS + FEW,
        lasts_s=18.0,
        is_single=True,
    ),
}
