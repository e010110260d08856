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


_ACROSS = tuple((one, other) for one in HOSTS for other in FEW)


def _meeting(name: str, fault: Fault, *, heal_s: float, seed: int) -> Plan:
    """A majority makes pins behind a cut, and `fault` befalls it before the two sides meet.

    Of some of these keys both holders are then of the other side, which has never heard of them.
    Each key is asked for once there, so that some are in every moment after the heal.
    """
    ways = _ACROSS + tuple((other, one) for one, other in _ACROSS)
    made = (Step(5.5 + 0.005 * key, "request", HOSTS[key % 3], key) for key in range(300))
    asked = (Step(heal_s + 0.013 * key, "request", FEW[0], key) for key in range(300))
    return _plan(
        name,
        (Fault(2.0, "cut", heal_s - 2.0, ways=ways), fault),
        (*made, *asked),
        seed=seed,
        hosts=HOSTS + FEW,
        lasts_s=heal_s + 5.0,
        is_single=True,
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
    # All nodes start anew while they are apart, and each side is in sync by itself: what it found
    # on its disks no log tells.
    "both-sides-restart-behind-a-cut": _meeting(
        "both-sides-restart-behind-a-cut", Fault(7.5, "blackout", 0.3), heal_s=13.0, seed=2
    ),
    # One that has made some of the pins is gone when the sides meet, and its log with it.
    "a-home-dies-behind-a-cut": _meeting(
        "a-home-dies-behind-a-cut", Fault(7.7, "crash", 30.0, HOSTS[2]), heal_s=9.0, seed=0
    ),
}
