"""What was confirmed to whom, who held it when, and which faults there were: the judge's books.

Owns: the pins that clients were told of, the hosts that hold each on their disk, and the question
whether a contradiction has a fault that explains it. Must not know: how nodes work.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from meshlb.core.sticky.lifetime import unheard_s
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S
from meshlb.core.sticky.pin import Pin
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import PinRecord, Rank
from tests.sim.mesh.mesh import SimMesh
from tests.sim.mesh.plan import Fault
from tests.sim.mesh.process import Process

Identity = tuple[int, int, int, str, str]
"""Epoch, rank, stamp, claimer, backend."""

SLOW_S = 0.3
"""A way that is slower than this counts as cut: time-outs pass on it."""

LATE_S = 5.0
"""What deliveries and retransmissions may add to the life of a pin on its way."""

LONG_S = 1.5
"""Whoever stands still for longer may be given up, and take a while to notice."""

AFTERMATH_S = 12.0
"""How long after a fault its effects may last: detection, silent streams, dialling again."""

CROSSING_S = 0.5
"""What goes on its way before a cut begins, or ends, may arrive or be missing so much later."""

CONVALESCENCE_S = 20.0
"""After this a node that was ill looks at others as often as any other."""


def identity(pin: Pin | PinRecord) -> Identity:
    """What makes a pin this pin."""
    return (pin.epoch, int(pin.rank), pin.stamp_ms, pin.claimer, pin.backend)


def _making(key: SessionKey, pin: Pin) -> tuple[SessionKey, int, str, str]:
    return (key, pin.stamp_ms, pin.claimer, pin.backend)


def _is_unnoticed(cut: Fault, at: float) -> bool:
    """Whether nodes may not know yet of a cut, which lasts or ends just now."""
    return cut.at - CROSSING_S <= at <= min(cut.until, cut.at + AFTERMATH_S) + CROSSING_S


@dataclass
class Confirmed:
    """A pin that a client was told of, agreed by a majority."""

    pin: Pin
    at: float
    by: NodeName
    until: float
    """When it expires, in world time, by the latest use that any node wrote down."""


@dataclass
class Burial:
    """A key was unpinned."""

    epoch: int
    at: float


@dataclass
class Books:
    """Of one run."""

    mesh: SimMesh
    confirmed: dict[SessionKey, dict[Identity, Confirmed]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    held: dict[tuple[SessionKey, Identity], dict[tuple[NodeName, int], float]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """Hosts, and the generation of their disk, that have committed a pin, and when it expires by
    what they wrote down."""
    pairs: dict[tuple[SessionKey, Identity], tuple[NodeName, NodeName | None]] = field(
        default_factory=dict
    )
    """Home and backup that agreed on a pin."""
    agreed: dict[tuple[SessionKey, Identity], Confirmed] = field(default_factory=dict)
    """Agreed pins, whether or not a client was told, when the first node wrote them down."""
    burials: dict[SessionKey, Burial] = field(default_factory=dict)
    """The latest epoch in which each key was unpinned."""
    made_at: dict[tuple[SessionKey, int, str, str], float] = field(default_factory=dict)
    """When each pin was first written down, by its stamp, claimer and backend: of any rank."""
    used_at: dict[tuple[SessionKey, Identity], float] = field(default_factory=dict)
    """When a client was last told of each pin, or when it was made."""
    explained: list[str] = field(default_factory=list)
    """Contradictions that a double fault explains, and which."""

    def wrote(self, process: Process, key: SessionKey, pin: Pin) -> None:
        """`process` has taken `pin` into its table."""
        if pin.rank is Rank.QUORATE and (key, identity(pin)) not in self.agreed:
            until = process.world_time(pin.expires_at)
            agreed = Confirmed(pin, self.mesh.world.now, process.name, until)
            self.agreed[key, identity(pin)] = agreed
        self.used_at.setdefault((key, identity(pin)), self.mesh.world.now)
        self.made_at.setdefault(_making(key, pin), self.mesh.world.now)
        known = self.confirmed[key].get(identity(pin))
        if known is not None:
            known.until = max(known.until, process.world_time(pin.expires_at))

    def use(self, key: SessionKey, pin: Pin) -> float:
        """A client was told of `pin`; for how long nobody had been."""
        now = self.mesh.world.now
        before = self.used_at.get((key, identity(pin)), now)
        self.used_at[key, identity(pin)] = now
        return now - before

    def idle_s_max(self) -> float:
        """After this long without use a pin is over, wherever it is, by clocks that were right.

        A life is told as what is left of it, so what waits for a process that stands still lives
        longer by that.
        """
        wrong_s = sum(abs(fault.skew_s) for fault in self.mesh.log)
        wrong_s += sum(fault.for_s for fault in self.mesh.log if fault.kind in ("pause", "leap"))
        return self.mesh.plan.ttl_s + unheard_s(self.mesh.plan.ttl_s) + LATE_S + wrong_s

    def committed(self, process: Process, records: dict[SessionKey, Pin]) -> None:
        """`process` has these on its disk now."""
        place = (process.name, process.disk.generation)
        for key, pin in records.items():
            self.held[key, identity(pin)][place] = pin.expires_at
            if not pin.backend:
                self._bury(key, pin)
            known = self.confirmed[key].get(identity(pin))
            if known is not None:
                known.until = max(known.until, process.world_time(pin.expires_at))

    def _bury(self, key: SessionKey, stone: Pin) -> None:
        known = self.burials.get(key)
        if known is None or known.epoch < stone.epoch:
            self.burials[key] = Burial(stone.epoch, self.mesh.world.now)

    def is_raised(self, key: SessionKey, kept: Pin) -> bool:
        """Whether a pin lives that was unpinned, and not made anew since."""
        burial = self.burials[key]
        return kept.epoch < burial.epoch and self.made_at[_making(key, kept)] < burial.at

    def confirm(self, process: Process, key: SessionKey, pin: Pin) -> str:
        """A client was told of `pin`; what contradicts that and has no explanation, or nothing."""
        if pin.rank is not Rank.QUORATE or not pin.backend:
            return ""
        now = self.mesh.world.now
        mine = identity(pin)
        until = process.world_time(pin.expires_at)
        known = self.confirmed[key].get(mine)
        if known is not None:
            known.until = max(known.until, until)
            return ""
        confirmed = Confirmed(pin, now, process.name, until)
        others = [
            other
            for other in self.confirmed[key].values()
            if other.pin.epoch == pin.epoch
            and other.pin.backend != pin.backend
            and other.until > now
        ]
        self.confirmed[key][mine] = confirmed
        for other in others:
            told = (
                f"key {key[:3].hex()} epoch {pin.epoch}: {other.pin.backend} was confirmed at"
                f" {other.at:.3f} by {other.by}, {pin.backend} at {now:.3f} by {process.name}"
            )
            fault = self.double_fault(key, other, confirmed)
            if not fault:
                return told
            self.explained.append(f"{told}; {fault}")
        return ""

    # Explanations ------------------------------------------------------------------------

    def double_fault(self, key: SessionKey, earlier: Confirmed, later: Confirmed) -> str:
        """The faults that cut both holders of `earlier` from who confirmed `later`, by name."""
        if self.mesh.plan.is_single:
            return ""
        home, backup = self.pairs.get((key, identity(earlier.pin)), (earlier.by, None))
        judge, _ = self.pairs.get((key, identity(later.pin)), (later.by, None))
        reasons = []
        for holder in {home, backup} - {None}:
            assert holder is not None
            reason = self._cut_off(holder, judge, earlier.at, later.at)
            if not reason:
                return ""
            reasons.append(reason)
        return "double fault: " + " and ".join(sorted(reasons))

    def _cut_off(self, holder: NodeName, judge: NodeName, made_at: float, at: float) -> str:
        """The fault for which `judge` did not know at a time what `holder` had before."""
        for fault in self.mesh.log:
            if fault.at > at:
                continue
            if fault.host == holder and abs(fault.skew_s) >= TOMBSTONE_GRACE_S:
                return f"{holder} mistook a moment for a long absence: {fault}"
            if fault.until + AFTERMATH_S < made_at - AFTERMATH_S:
                continue
            touches = {(holder, judge), (judge, holder)} & set(fault.ways)
            if fault.kind in ("crash", "pause", "leave") and fault.host == holder != judge:
                return f"{holder}: {fault}"
            if fault.kind == "pause" and fault.host == judge and fault.for_s >= LONG_S:
                return f"{holder} not with {judge}: {fault}"
            if fault.kind == "crash" and fault.host == holder and fault.is_disk_lost:
                return f"{holder}: {fault}"
            if fault.kind == "leap":
                return f"{holder}: {fault}"
            is_unnoticed = _is_unnoticed(fault, made_at) or _is_unnoticed(fault, at)
            if fault.kind == "cut" and touches and is_unnoticed:
                return f"{holder} not with {judge}: {fault}"
            if fault.kind == "slow" and touches and fault.delay_s >= SLOW_S:
                return f"{holder} not with {judge}: {fault}"
        return ""

    def losses_since(self, at: float, home: NodeName, backup: NodeName | None) -> str:
        """How a pin can be lost that home and backup agreed on: the disk of one, and the other.

        The home has it on its disk before it tells anybody, the backup perhaps only in memory.
        """
        crashes = [f for f in self.mesh.log if f.kind in ("crash", "leave") and f.at >= at - 1.0]
        lost = [f for f in crashes if f.is_disk_lost and f.host == home]
        forgotten = [f for f in crashes if f.host == backup]
        if not lost or (backup is not None and not forgotten):
            return ""
        return f"{lost[0]}, {forgotten[0] if forgotten else 'and it had no backup'}"

    def wrong_clock(self) -> str:
        """A start whose clock was wrong by more than a pin's lifetime: who lives is its guess."""
        wrong = [fault for fault in self.mesh.log if abs(fault.skew_s) >= self.mesh.plan.ttl_s]
        return f"a clock wrong by more than the ttl: {wrong[0]}" if wrong else ""

    def alone_since(self, name: NodeName, now: float) -> float | None:
        """Since when a host that was well is cut off from all others; None where it is not so."""
        hidden = {(other, name) for other in self.mesh.hosts if other != name}
        cuts = [
            fault
            for fault in self.mesh.log
            if fault.at <= now < fault.until and hidden <= set(fault.ways) and fault.kind == "cut"
        ]
        is_hidden = hidden and not any(self.mesh.air.passes(*way) for way in hidden)
        if not is_hidden or len(cuts) != 1:
            return None
        (cut,) = cuts
        was_well = not any(
            fault.until + CONVALESCENCE_S >= cut.at and self._touches(fault, name)
            for fault in self.mesh.log
            if fault is not cut and fault.at <= now
        )
        return cut.at if was_well else None

    def is_touched(self, name: NodeName, now: float) -> bool:
        """Whether a fault has befallen a host of late, or befalls it now."""
        for fault in self.mesh.log:
            if fault.at > now or fault.until + AFTERMATH_S < now:
                continue
            if self._touches(fault, name):
                return True
        return False

    def _touches(self, fault: Fault, name: NodeName) -> bool:
        if fault.kind in ("leap", "weather", "blackout") or fault.host == name:
            return True
        return any(name in way for way in fault.ways)
