"""What will happen to a mesh in one run: faults and requests, drawn from a seed.

Owns: the values, and how they are drawn. A plan is data: it can be printed, cut down and run
again. Must not know: how anything of it is done.
"""

from dataclasses import dataclass, replace
from itertools import permutations
from random import Random
from typing import Literal

from meshlb.model import NodeName
from tests.sim.mesh.air import Way, Weather
from tests.sim.mesh.tongues import TODAY, Tongue

Kind = Literal[
    "crash", "pause", "cut", "weather", "slow", "reset", "leave", "join", "backend", "word",
    "replay", "leap", "blackout",
]  # fmt: skip

BACKENDS = ("s1", "s2", "s3", "s4")
FIRST_FAULT_S = 3.0
FAULTS_PER_STEP = 1 / 20
STEPS_PER_S = 12.0
KEYS_PER_STEP = 0.25


NOBODY = NodeName("")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, or that an operator does, and for how long."""

    at: float
    kind: Kind
    for_s: float = 0.0
    host: NodeName = NOBODY
    ways: tuple[Way, ...] = ()
    weather: Weather | None = None
    delay_s: float = 0.0
    points: int = 0
    """A crash: how many commits and sends later; 0: between two steps."""
    is_power_lost: bool = False
    is_disk_lost: bool = False
    is_suspended: bool = False
    skew_s: float = 0.0
    """By how much the wall clock of the next start is wrong."""
    backend: str = ""
    state: str = ""
    count: int = 0
    tongue: Tongue | None = None
    """A restart: the version that the host speaks from then on; None: the same."""

    @property
    def until(self) -> float:
        return self.at + self.for_s

    def __str__(self) -> str:
        plain = Fault(0.0, self.kind)
        told = [
            f"{name.removeprefix('is_')}={_short(value)}"
            for name, value in vars(self).items()
            if name not in ("at", "kind", "for_s") and value != getattr(plain, name)
        ]
        lasting = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"at {self.at:6.2f} s {self.kind}{lasting} {' '.join(told)}".rstrip()


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{one}>{other}" for one, other in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Step:
    """Something that a client or an operator asks of one node."""

    at: float
    kind: Literal["request", "cookie", "unpin"]
    host: NodeName
    key: int


@dataclass(frozen=True)
class Plan:
    """One run."""

    seed: int
    hosts: tuple[NodeName, ...]
    lasts_s: float
    replay: str
    """The command that runs this plan again."""
    profile: str
    """The timings of membership."""
    ttl_s: float
    is_coded: bool
    log_entries_max: int
    is_single: bool
    """One fault of one host at a time, and quiet after each: nothing may be lost or contradict."""
    faults: tuple[Fault, ...]
    steps: tuple[Step, ...]
    tongue: Tongue = TODAY
    """What hosts speak when they start for the first time."""

    def without(self, left_out: frozenset[int]) -> "Plan":
        """The plan without these faults, by place."""
        kept = tuple(fault for i, fault in enumerate(self.faults) if i not in left_out)
        return replace(self, faults=kept)


def draw_plan(seed: int, *, nodes: int | None = None, steps: int | None = None) -> Plan:
    """The plan of a seed; `nodes` and `steps` overrule what the seed would give."""
    rng = Random(f"{seed}/plan")
    count = rng.choice((2, 3, 3, 3, 4, 5, 5))
    count = nodes or count
    hosts = tuple(NodeName(f"n{i}") for i in range(count))
    number = rng.choice((60, 120, 120, 180))
    number = steps or number
    lasts_s = FIRST_FAULT_S + number / STEPS_PER_S
    is_single = rng.random() < 0.3
    profile = rng.choice(("local", "local", "lan"))
    faults = (
        _single_faults(rng, hosts, lasts_s) if is_single else _faults(rng, hosts, number, lasts_s)
    )
    if is_single and faults:
        lasts_s = max(lasts_s, faults[-1].until + 2.0)
    return Plan(
        seed=seed,
        hosts=hosts,
        lasts_s=lasts_s,
        replay=_replay(seed, nodes, steps),
        profile=profile,
        ttl_s=rng.choice((1_200.0, 1_200.0, 1_200.0, 8.0)),
        is_coded=rng.random() < 0.1,
        log_entries_max=rng.choice((4, 16, 65_536, 65_536)),
        is_single=is_single,
        faults=tuple(faults),
        steps=tuple(_steps(rng, hosts, number, lasts_s)),
    )


def _replay(seed: int, nodes: int | None, steps: int | None) -> str:
    words = [f"make sim SEED={seed}"]
    words += [f"NODES={nodes}"] if nodes else []
    words += [f"STEPS={steps}"] if steps else []
    return " ".join(words)


# Requests ---------------------------------------------------------------------------------


def _steps(rng: Random, hosts: tuple[NodeName, ...], number: int, lasts_s: float) -> list[Step]:
    """Storms of first requests for one key at several nodes at once, and reuse of old keys."""
    keys = max(4, round(number * KEYS_PER_STEP))
    steps: list[Step] = []
    while len(steps) < number:
        at = 1.0 + rng.random() * (lasts_s - 1.0)
        key = rng.randrange(keys)
        draw = rng.random()
        if draw < 0.04:
            steps.append(Step(at, "unpin", rng.choice(hosts), key))
        elif draw < 0.12:
            steps.append(Step(at, "cookie", rng.choice(hosts), key))
        else:
            spread_s = rng.choice((0.0, 0.001, 0.01, 0.3))
            for _ in range(rng.randint(1, 2 * len(hosts))):
                host = rng.choice(hosts)
                steps.append(Step(at + rng.random() * spread_s, "request", host, key))
    return sorted(steps, key=lambda step: step.at)


# Faults -----------------------------------------------------------------------------------


def _single_faults(rng: Random, hosts: tuple[NodeName, ...], lasts_s: float) -> list[Fault]:
    """Faults of one host each, the next one only when the mesh has recovered from the last."""
    faults: list[Fault] = []
    at = FIRST_FAULT_S + rng.random()
    while at < lasts_s:
        kind = rng.choice(
            ("crash", "crash", "pause", "isolate", "pair", "reset", "slow", "leave", "blackout")
        )
        fault = _fault(rng, kind, at, hosts)
        if kind == "crash" and rng.random() < 0.3:
            fault = replace(fault, for_s=14.0)
        elif kind not in ("crash", "reset"):
            fault = replace(fault, for_s=min(fault.for_s, 6.0), is_suspended=False)
        faults.append(fault)
        at = faults[-1].until + 14.0 + rng.random()
    return faults


def _faults(rng: Random, hosts: tuple[NodeName, ...], number: int, lasts_s: float) -> list[Fault]:
    kinds = (
        "crash", "crash", "crash", "crash", "pause", "pause", "isolate", "islands", "islands",
        "pair", "one-way", "weather", "slow", "reset", "reset", "leave", "join", "backend",
        "backend", "word", "replay", "leap", "blackout",
    )  # fmt: skip
    count = max(2, round(number * FAULTS_PER_STEP * rng.choice((0.5, 1, 2))))
    faults = []
    for _ in range(count):
        at = FIRST_FAULT_S + rng.random() * (lasts_s - FIRST_FAULT_S)
        faults.append(_fault(rng, rng.choice(kinds), at, hosts))
    return sorted(faults, key=lambda fault: fault.at)


def _fault(rng: Random, kind: str, at: float, hosts: tuple[NodeName, ...]) -> Fault:
    host = rng.choice(hosts)
    others = tuple(name for name in hosts if name != host)
    for_s = rng.choice((rng.random(), rng.random() * 4, rng.random() * 12))
    match kind:
        case "crash":
            return Fault(
                at, "crash", rng.choice((0.3, for_s, for_s)), host,
                points=rng.choice((0, rng.randint(1, 12))),
                is_power_lost=rng.random() < 0.3,
                is_disk_lost=rng.random() < 0.3,
                skew_s=rng.choice((0.0, 0.0, -30.0, 30.0, -3_600.0)),
            )  # fmt: skip
        case "pause":
            return Fault(at, "pause", for_s, host, is_suspended=rng.random() < 0.3)
        case "isolate":
            ways = tuple((host, o) for o in others) + tuple((o, host) for o in others)
            return Fault(at, "cut", for_s, host, ways=ways)
        case "islands":
            side = set(rng.sample(hosts, rng.randint(1, len(hosts) - 1)))
            crossing = [
                way for way in permutations(hosts, 2) if (way[0] in side) != (way[1] in side)
            ]
            return Fault(at, "cut", for_s, ways=tuple(crossing))
        case "pair":
            other = rng.choice(others)
            return Fault(at, "cut", for_s, ways=((host, other), (other, host)))
        case "one-way":
            ways = rng.choice(((((host, rng.choice(others))),), tuple((host, o) for o in others)))
            return Fault(at, "cut", for_s, ways=ways)
        case "weather":
            weather = Weather(
                loss=rng.choice((0.05, 0.2)),
                duplication=0.1,
                delay_s=rng.choice((0.001, 0.01, 0.03)),
            )
            return Fault(at, "weather", for_s, weather=weather)
        case "slow":
            way = (host, rng.choice(others))
            return Fault(at, "slow", for_s, ways=(way,), delay_s=rng.choice((0.05, 0.3, 1.0)))
        case "reset":
            return Fault(at, "reset", ways=((host, rng.choice(others)),))
        case "leave":
            return Fault(at, "leave", for_s, host)
        case "join":
            return Fault(at, "join", host=NodeName(f"j{rng.randrange(3)}"))
        case "backend":
            return Fault(at, "backend", for_s, backend=rng.choice(BACKENDS))
        case "word":
            state = rng.choice(("up", "draining", "maintenance"))
            return Fault(at, "word", host=host, backend=rng.choice(BACKENDS), state=state)
        case "replay":
            return Fault(at, "replay", host=host, count=rng.randint(1, 50))
        case "blackout":
            return Fault(at, "blackout", for_s, is_power_lost=rng.random() < 0.5)
        case _:
            return Fault(at, "leap", rng.choice((1.5, 30.0)))
