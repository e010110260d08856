"""The durations of membership, chosen together, and the three profiles to choose from.

Owns: every duration that decides how fast a crash is noticed and how much traffic that costs.
Must not know: who the members are. Spec: protocol/spec/membership.md, "Timings".
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

PUSH_PULL_MEMBERS: Final = 32
"""Above as many members, views are exchanged less often in proportion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How often members look at each other and how long they doubt before they decide.

    A crash is known to all after about: the wait for the first probe (one `probe_interval_s` on
    average, 4.6 of them at the 99th percentile), one `probe_interval_s` for that probe to fail,
    and `suspicion_for(members)`.

    Raises:
        ValueError: the durations do not fit each other.
    """

    probe_interval_s: float
    """One member is probed per interval. Range 0.05 to 60. Shorter finds a crash sooner and
    costs traffic in proportion: a node sends about two datagrams per interval."""

    ping_timeout_s: float
    """How long a direct ping may take before others are asked to help. Range: above the
    99th percentile of the round trip plus a busy event loop's delay, below half of
    `probe_interval_s`, so that a helper's answer still fits into the interval."""

    suspicion_s: float
    """How long a suspect of up to ten members has to refute once enough members agree.
    Range: at least two `probe_interval_s`. Choose it longer than the longest pause (garbage
    collection, a live migration) that shall not cost a member its slots."""

    suspicion_stretch: float
    """A suspicion that nobody confirms lasts this many times longer. Range 1 to 10; a node
    whose own network is ill gets this long to notice that it stands alone."""

    push_pull_interval_s: float
    """Mean time between exchanges of the whole view with a random member, the safety net
    under gossip, among up to 32 members. Range 5 to 600; it costs about 80 bytes per member
    and exchange."""

    contact_first_s: float
    """The wait after the first attempt to reach a seed or a dead member; doubled each time."""

    contact_max_s: float
    """The longest wait between such attempts, hence the time a healed partition needs."""

    pause_s: float
    """A timer this late means that the whole process stood still (a stopped VM), so what it
    believes of others is worthless: suspicions start anew. Range: above any normal delay of
    the event loop, below `suspicion_s`."""

    left_kept_s: float
    """How long a member that left is remembered, so that late gossip cannot bring it back."""

    def __post_init__(self) -> None:
        """Refuse durations that cannot work together."""
        if not 0 < 2 * self.ping_timeout_s < self.probe_interval_s:
            raise ValueError("ping_timeout_s must be above 0 and below half of probe_interval_s")
        if self.suspicion_s < 2 * self.probe_interval_s:
            raise ValueError("suspicion_s must be at least two probe_interval_s")
        if self.suspicion_stretch < 1:
            raise ValueError("suspicion_stretch must be at least 1")
        if not 0 < self.pause_s < self.suspicion_s:
            raise ValueError("pause_s must be above 0 and below suspicion_s")
        if not 0 < self.contact_first_s <= self.contact_max_s:
            raise ValueError("contact_first_s must be above 0 and at most contact_max_s")
        if self.push_pull_interval_s <= 0 or self.left_kept_s <= 0:
            raise ValueError("push_pull_interval_s and left_kept_s must be above 0")

    def suspicion_for(self, members: int) -> float:
        """The shortest suspicion among `members`: gossip needs longer to cross a larger cluster."""
        return self.suspicion_s * max(1.0, math.log10(max(members, 1)))

    def push_pull_for(self, members: int) -> float:
        """The mean interval among `members`: more of them, larger views, no more traffic."""
        return self.push_pull_interval_s * max(1.0, members / PUSH_PULL_MEMBERS)


LAN: Final = Timings(
    probe_interval_s=0.35,
    ping_timeout_s=0.15,
    suspicion_s=2.0,
    suspicion_stretch=3.0,
    push_pull_interval_s=30.0,
    contact_first_s=0.5,
    contact_max_s=8.0,
    pause_s=1.0,
    left_kept_s=3600.0,
)
"""One site: round trips of a few milliseconds."""

WAN: Final = Timings(
    probe_interval_s=1.5,
    ping_timeout_s=0.6,
    suspicion_s=6.0,
    suspicion_stretch=4.0,
    push_pull_interval_s=60.0,
    contact_first_s=1.0,
    contact_max_s=10.0,
    pause_s=3.0,
    left_kept_s=3600.0,
)
"""Several sites: round trips of up to 300 ms and bursts of loss."""

LOCAL: Final = Timings(
    probe_interval_s=0.25,
    ping_timeout_s=0.1,
    suspicion_s=1.5,
    suspicion_stretch=2.0,
    push_pull_interval_s=15.0,
    contact_first_s=0.2,
    contact_max_s=3.0,
    pause_s=0.75,
    left_kept_s=600.0,
)
"""One machine: demonstrations and tests. A machine that is overloaded for a second is noticed."""

PROFILES: Final = MappingProxyType({"lan": LAN, "wan": WAN, "local": LOCAL})
"""The values of `profile` in the configuration."""
