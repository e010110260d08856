"""One member as the view knows it, and the rule that merges what others say of it.

Rules. Only the subject raises its incarnation, so a report of a higher one is newer whatever
state it names. Within one life, a (incarnation, boot_id) pair, the state only advances:
alive, suspect, dead, left. Reports are therefore totally ordered by (incarnation, boot_id,
state), and merging keeps the greatest: any order, duplication or delay gives the same view.

Owns: `Member`, the order, and the table of transitions.
Must not know: time-outs, probes, other members. Spec: protocol/spec/membership.md, "Merge".
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.messages import MemberUpdate
from meshlb.wire.versions import Versions

LIVE: Final = frozenset({MemberState.ALIVE, MemberState.SUSPECT})
"""The states in which a member takes part."""

INCARNATION_MAX: Final = 2**48 - 1
"""A wall clock in milliseconds is far below; what is above is a fault of its teller, and a node
that refuted it would soon have no number left."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the view. `since` is when this node learned of the state, monotonic seconds."""

    name: NodeName
    address: Address
    boot_id: BootId
    incarnation: int
    state: MemberState
    synced: bool
    reporter: NodeName
    since: float
    versions: Versions | None = None
    """What it speaks; None until somebody has said it. The same for a whole boot."""

    @classmethod
    def born(
        cls,
        name: NodeName,
        address: Address,
        boot_id: BootId,
        incarnation: int,
        *,
        versions: Versions,
        now: float,
    ) -> "Member":
        """A node as it sees itself when it starts."""
        return cls(
            name=name,
            address=address,
            boot_id=boot_id,
            incarnation=incarnation,
            state=MemberState.ALIVE,
            synced=False,
            reporter=name,
            since=now,
            versions=versions,
        )

    @classmethod
    def told(cls, update: MemberUpdate, now: float) -> "Member":
        """The member that `update` describes."""
        return cls(
            name=update.name,
            address=update.address,
            boot_id=update.boot_id,
            incarnation=update.incarnation,
            state=update.state,
            synced=update.synced,
            reporter=update.reporter,
            since=now,
            versions=Versions.told(update),
        )

    @property
    def is_live(self) -> bool:
        """Alive, or suspected and not yet given up."""
        return self.state in LIVE

    def update(self) -> MemberUpdate:
        """What to tell others of this member; the first reporter's name is passed on."""
        spoken = self.versions
        return MemberUpdate(
            name=self.name,
            address=self.address,
            boot_id=self.boot_id,
            incarnation=self.incarnation,
            state=self.state,
            synced=self.synced,
            reporter=self.reporter,
            version_min=spoken.lowest if spoken else 0,
            version_max=spoken.highest if spoken else 0,
            features=int(spoken.features) if spoken else 0,
        )


class Outcome(enum.StrEnum):
    """What a report changes."""

    JOINED = "joined"
    RESTARTED = "restarted"
    """A new boot of a known name."""
    RETURNED = "returned"
    """The same boot was thought dead or gone and is not."""
    UPDATED = "updated"
    """A newer incarnation without a change of state, such as being synced."""
    SUSPECTED = "suspected"
    REFUTED = "refuted"
    DIED = "died"
    LEFT = "left"
    CONFIRMED = "confirmed"
    """One more accuser of a suspect; the member itself is unchanged."""
    STALE = "stale"
    """Nothing new."""

    @property
    def replaces(self) -> bool:
        """The report becomes what the view knows."""
        return self not in (Outcome.CONFIRMED, Outcome.STALE)


class Age(enum.Enum):
    """How the life that a report speaks of relates to the known one."""

    OLDER = enum.auto()
    SAME = enum.auto()
    RAISED = enum.auto()
    """The same boot with a higher incarnation."""
    REBORN = enum.auto()
    """Another boot, which began later."""
    FIRST = enum.auto()
    """The name is not known."""


def _row(alive: str, suspect: str, dead: str, left: str) -> tuple[Outcome, ...]:
    return (Outcome(alive), Outcome(suspect), Outcome(dead), Outcome(left))


# fmt: off
_TRANSITIONS: Final[Mapping[tuple[Age, MemberState | None], tuple[Outcome, ...]]] = {
    # age of report, known state            reported: ALIVE    SUSPECT      DEAD       LEFT
    (Age.FIRST,  None):                      _row("joined",    "suspected", "died",    "left"),
    (Age.SAME,   MemberState.ALIVE):         _row("stale",     "suspected", "died",    "left"),
    (Age.SAME,   MemberState.SUSPECT):       _row("stale",     "confirmed", "died",    "left"),
    (Age.SAME,   MemberState.DEAD):          _row("stale",     "stale",     "stale",   "left"),
    (Age.SAME,   MemberState.LEFT):          _row("stale",     "stale",     "stale",   "stale"),
    (Age.RAISED, MemberState.ALIVE):         _row("updated",   "suspected", "died",    "left"),
    (Age.RAISED, MemberState.SUSPECT):       _row("refuted",   "suspected", "died",    "left"),
    (Age.RAISED, MemberState.DEAD):          _row("returned",  "suspected", "updated", "left"),
    (Age.RAISED, MemberState.LEFT):          _row("returned",  "suspected", "died",    "updated"),
    (Age.REBORN, MemberState.ALIVE):         _row("restarted", "suspected", "died",    "left"),
    (Age.REBORN, MemberState.SUSPECT):       _row("restarted", "suspected", "died",    "left"),
    (Age.REBORN, MemberState.DEAD):          _row("restarted", "suspected", "updated", "left"),
    (Age.REBORN, MemberState.LEFT):          _row("restarted", "suspected", "died",    "updated"),
}
# fmt: on


def age_of(update: MemberUpdate, known: Member | None) -> Age:
    """How the life that `update` speaks of relates to `known`."""
    if known is None:
        return Age.FIRST
    reported, held = (update.incarnation, update.boot_id), (known.incarnation, known.boot_id)
    if reported == held:
        return Age.SAME
    if reported < held:
        return Age.OLDER
    return Age.RAISED if update.boot_id == known.boot_id else Age.REBORN


def merge(known: Member | None, update: MemberUpdate, now: float) -> tuple[Member | None, Outcome]:
    """What to know after `update`, and what that changed; None only where `known` is None."""
    age = age_of(update, known)
    if age is Age.OLDER:
        return known, Outcome.STALE
    outcome = _TRANSITIONS[age, known.state if known else None][update.state]
    after = Member.told(update, now) if outcome.replaces else known
    return _with_versions(after, known, update), outcome


def _with_versions(
    after: Member | None, known: Member | None, update: MemberUpdate
) -> Member | None:
    """Fills in what a member of version 1 leaves out where it passes a report on."""
    if after is None or known is None or after.versions is not None:
        return after
    same_boot = known.boot_id == update.boot_id
    versions = known.versions or Versions.told(update) if same_boot else None
    return replace(after, versions=versions) if versions is not None else after


def is_contested(known: Member | None, update: MemberUpdate) -> bool:
    """Whether `update` is about a namesake of a live member at another address.

    The live one keeps the name until it is dead or has left; a restart at the same address
    takes the name over at once.
    """
    return (
        known is not None
        and known.is_live
        and update.boot_id != known.boot_id
        and update.address != known.address
    )
