"""Plans made by hand, for what chance seldom brings about: the right fault at the right moment.

Owns: the plans and what each is about. Three hosts; which of them is home, backup or neither is
the key's doing.
"""

from itertools import permutations

from meshlb.model import NodeName
from tests.sim.mesh.plan import Fault, Plan, Step

HOSTS = (NodeName("n0"), NodeName("n1"), NodeName("n2"))

KEY = 5
HOME, BACKUP, OTHER = NodeName("n1"), NodeName("n0"), NodeName("n2")
"""Of that key, among these hosts (pins O2)."""

SENDS = 5
"""Commits and sends of a home from a claim to the first word that its pin is agreed."""


def _plan(name: str, faults: tuple[Fault, ...], steps: tuple[Step, ...]) -> Plan:
    return Plan(
        seed=0,
        hosts=HOSTS,
        lasts_s=12.0,
        replay=f"the scene {name!r}",
        profile="local",
        ttl_s=1_200.0,
        is_coded=False,
        log_entries_max=65_536,
        is_single=False,
        faults=faults,
        steps=steps,
    )


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
}
