"""Looking at one member per interval: ping, then ask others, then blame.

    0                 ping by datagram
    ping_timeout_s    ping requests through three others, and a ping on the stream
    probe_interval_s  no answer: the probe has failed, and the next begins

The order is random and every member's turn comes once per round (SWIM), so the time until a
crash is met is bounded; a suspect's turn comes next. All times are multiplied by the scale of
local health, which also reads from missing Nacks whether this node is the one cut off.

Owns: the rotation and the probe under way.
Must not know: what a failed probe means for the view. Spec: protocol/spec/membership.md, "Probe".
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from meshlb.core.swim.health import Health
from meshlb.core.swim.member import Member
from meshlb.core.swim.outbox import Outbox
from meshlb.core.swim.timings import Timings
from meshlb.core.swim.view import View
from meshlb.model import MemberState, NodeName
from meshlb.wire.messages import Ping, PingRequest

if TYPE_CHECKING:
    from random import Random

HELPERS_MAX: Final = 3
"""Members asked to ping in our place."""


class Rotation:
    """Whose turn it is. Bounded by the view: each name is in it once.

    From round to round the two halves of the order are shuffled each by itself. A member then
    waits at most one and a half rounds for its next turn; if the whole were shuffled, two, and
    the slowest detections are those that wait longest.
    """

    def __init__(self, rng: "Random") -> None:
        self._rng = rng
        self._urgent: dict[NodeName, None] = {}
        self._order: list[NodeName] = []
        self._turn = 0

    def hasten(self, name: NodeName) -> None:
        """Let `name` be next, after those that were hastened before it."""
        self._urgent[name] = None

    def insert(self, name: NodeName) -> None:
        """Give a new member a random place in what is left of this round."""
        if name not in self._order:
            self._order.insert(self._rng.randint(self._turn, len(self._order)), name)

    def next(self, view: View) -> Member | None:
        """The live member whose turn it is; None where there is no other."""
        while self._urgent:
            name = next(iter(self._urgent))
            del self._urgent[name]
            if (member := _live(view, name)) is not None:
                return member
        for _ in range(2):
            while self._turn < len(self._order):
                self._turn += 1
                if (member := _live(view, self._order[self._turn - 1])) is not None:
                    return member
            self._begin_round(view)
        return None

    def _begin_round(self, view: View) -> None:
        live = [name for name in self._order if _live(view, name)]
        middle = len(live) // 2
        first, second = live[:middle], live[middle:]
        self._rng.shuffle(first)
        self._rng.shuffle(second)
        self._order, self._turn = first + second, 0


def _live(view: View, name: NodeName) -> Member | None:
    """The member of that name, if it can be probed; this node itself cannot."""
    member = view.get(name)
    return member if member is not None and member.is_live and member is not view.me else None


@dataclass(slots=True)
class _Probe:
    seq: int
    target: NodeName
    escalate_at: float
    helpers: dict[NodeName, bool] = field(default_factory=dict)
    """Whom we asked, and whether a Nack came back."""
    escalated: bool = False
    heard: bool = False
    """Any other packet of the target came meanwhile."""


class Prober:
    """The probe under way, if any, and when the next one begins."""

    def __init__(
        self,
        *,
        view: View,
        outbox: Outbox,
        health: Health,
        timings: Timings,
        rng: "Random",
        sequence: Iterator[int],
        now: float,
    ) -> None:
        self._view = view
        self._outbox = outbox
        self._health = health
        self._timings = timings
        self._rng = rng
        self._sequence = sequence
        self._probe: _Probe | None = None
        self._next_at = now + timings.probe_interval_s * rng.random()
        self.rotation = Rotation(rng)

    def next_deadline(self) -> float:
        """When `advance` has something to do."""
        if self._probe is not None and not self._probe.escalated:
            return min(self._probe.escalate_at, self._next_at)
        return self._next_at

    def advance(self, now: float) -> NodeName | None:
        """Do what is due; the member whose probe has failed, if one has."""
        failed: NodeName | None = None
        if now >= self._next_at:
            failed = self._conclude()
            self._begin(now)
        elif self._probe and not self._probe.escalated and now >= self._probe.escalate_at:
            self._escalate(self._probe)
        return failed

    def acked(self, seq: int, sender: NodeName) -> bool:
        """An Ack came; whether it ends the probe under way."""
        probe = self._probe
        if probe is None or probe.seq != seq:
            return False
        if sender != probe.target and sender not in probe.helpers:
            return False
        self._probe = None
        self._health.probe_succeeded()
        return True

    def nacked(self, seq: int, sender: NodeName) -> None:
        """A helper found the target silent as well, so the helper and we are well."""
        if self._probe and self._probe.seq == seq and sender in self._probe.helpers:
            self._probe.helpers[sender] = True

    def heard_from(self, name: NodeName) -> None:
        """A packet came that is no answer; its sender lives all the same."""
        if self._probe and self._probe.target == name:
            self._probe.heard = True

    def postpone(self, lag_s: float) -> None:
        """This node was late: the answer may lie unread in a queue."""
        self._next_at += lag_s
        if self._probe:
            self._probe.escalate_at += lag_s

    def start_over(self, now: float) -> None:
        """This node stood still: the probe under way proves nothing."""
        self._probe = None
        self._next_at = now

    def _begin(self, now: float) -> None:
        self._next_at = now + self._timings.probe_interval_s * self._health.scale
        target = self.rotation.next(self._view)
        if target is None:
            return
        escalate_at = now + self._timings.ping_timeout_s * self._health.scale
        self._probe = _Probe(next(self._sequence), target.name, escalate_at)
        self._outbox.datagram(target.address, target.name, Ping(self._probe.seq, target.name))

    def _escalate(self, probe: _Probe) -> None:
        probe.escalated = True
        target = self._view.get(probe.target)
        if target is None:
            return
        able = [m for m in self._view.others(MemberState.ALIVE) if m.name != target.name]
        for helper in self._rng.sample(able, min(HELPERS_MAX, len(able))):
            probe.helpers[helper.name] = False
            request = PingRequest(probe.seq, target.name, target.address)
            self._outbox.datagram(helper.address, helper.name, request)
        self._outbox.stream(target.name, Ping(probe.seq, target.name))

    def _conclude(self) -> NodeName | None:
        probe, self._probe = self._probe, None
        if probe is None or probe.heard:
            return None
        self._health.probe_failed(
            nacks_missing=sum(not nacked for nacked in probe.helpers.values()),
            helpers=len(probe.helpers),
        )
        return probe.target
