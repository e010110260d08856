"""When a node that has just started holds the whole table, and whom to pull it from.

Owns the rule, as a pure function of what is known now. The node may own slots only once

* every address to join by has been tried, or `DISCOVERY_S_MAX` has passed: somebody may be there;
* it is not refused everywhere: then there is a cluster, and this node is no part of it;
* there is a stream to every live member, so that what they decide from now on arrives, or
  `LINKS_S_MAX` has passed: a member that cannot be reached by stream must not stop all others;
* the table of a member that is in sync was pulled, or, where none is (the whole cluster has just
  started), the tables of all live members: each may have brought pins from its disk;
* no gap is left.

Spec: protocol/spec/replication.md, "Joining".
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from meshlb.core.swim.member import Member
from meshlb.model import MemberState, NodeName

DISCOVERY_S_MAX: Final = 3.5
"""Longer than a dial may take."""

LINKS_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a node knows that is about to join, or has a gap."""

    age_s: float
    """Since the start of the node."""
    untried: int
    """Addresses to join by that have been neither reached nor found silent, and names that have
    not resolved yet."""
    refused: str
    """By whom and why this node was refused last; empty where it was not."""
    others: tuple[Member, ...]
    """All members but this node."""
    linked: Collection[NodeName]
    pulled: Collection[NodeName]
    has_pulled_synced: bool
    gaps: Collection[NodeName]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do next: nothing more (`reason` is empty), pull, or wait for what `reason` says."""

    reason: str
    pull_from: Member | None = None


IN_SYNC: Final = Verdict("")


def judge(now: Situation) -> Verdict:
    """What is missing until this node holds the whole table."""
    if now.untried and now.age_s < DISCOVERY_S_MAX:
        return Verdict("looking for members")
    if now.refused and not now.linked:
        return Verdict(now.refused)
    if strangers := set(now.linked) - {member.name for member in now.others}:
        return Verdict(f"waiting to hear from {min(strangers)}")
    live = [member for member in now.others if member.is_live]
    linked = [member for member in live if member.name in now.linked]
    unlinked = [
        member
        for member in live
        if member.name not in now.linked and member.state is MemberState.ALIVE
    ]
    if unlinked and now.age_s < LINKS_S_MAX:
        return Verdict(f"waiting for a stream to {unlinked[0].name}")
    synced = [member for member in linked if member.synced]
    if synced:
        if now.gaps or not now.has_pulled_synced:
            return _pull(synced)
    else:
        unpulled = [member for member in linked if member.name not in now.pulled]
        if unpulled:
            return _pull(unpulled)
    return IN_SYNC


def gap_filler(gaps: Collection[NodeName], linked: Collection[Member]) -> Member | None:
    """Whom a node that is in sync asks for what it misses of `gaps`."""
    return next(
        (member for member in linked if member.name in gaps),
        next((member for member in linked if member.synced), None) if gaps else None,
    )


def _pull(candidates: list[Member]) -> Verdict:
    return Verdict(f"pulling the table from {candidates[0].name}", candidates[0])
