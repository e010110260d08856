"""The members that this node knows, and what follows from them: owners, view id, quorum.

A node that has just started knows nobody, and must not take itself for the whole cluster: an
address to join by counts as a member that cannot be reached until somebody was met there.

Owns: the bounded collection of members and the ownership view.
Must not know: messages, probes, time-outs. Spec: protocol/spec/membership.md, "View".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from meshlb.core.swim.member import Member, Outcome, merge
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.messages import MemberUpdate
from meshlb.wire.refusal import Refusal

MEMBERS_LIVE_MAX: Final = 128
"""Live members beyond which nobody new is let in: each has a stream to every other one. What
several members let in at the same moment may go a little above it, so that views stay alike."""

MEMBERS_MAX: Final = 256
"""Members in all states. A newcomer to a full view takes the place of the one that left longest
ago, else of the one dead longest; if all are live it is refused."""

VIEW_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who may own slots, the id of that set, and whether this side is the majority."""

    owners: tuple[NodeName, ...]
    view_id: int
    quorate: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a report did: `before` and `after` are equal where it changed nothing.

    `after` is None only for a newcomer that the full view had no room for.
    """

    outcome: Outcome
    before: Member | None
    after: Member | None


class View:
    """All known members by name, this node's own included."""

    def __init__(self, me: Member) -> None:
        self._my_name = me.name
        self._members: dict[NodeName, Member] = {me.name: me}
        self._unmet: set[Address] = set()
        self._met: set[Address] = set()
        self._has_unresolved = False
        self.is_cut_off = False
        """This node hears nobody: it is no majority while it holds others for live."""

    @property
    def me(self) -> Member:
        """This node itself."""
        return self._members[self._my_name]

    def get(self, name: NodeName) -> Member | None:
        """The member of that name, in whatever state."""
        return self._members.get(name)

    def all(self) -> tuple[Member, ...]:
        """Every member, this node first, then in the order in which they became known."""
        return tuple(self._members.values())

    def others(self, *states: MemberState) -> list[Member]:
        """All members in one of `states` but this node."""
        return [
            member
            for member in self._members.values()
            if member.state in states and member.name != self._my_name
        ]

    def live_count(self) -> int:
        """ALIVE and SUSPECT members, this node included."""
        return sum(member.is_live for member in self._members.values())

    def apply(self, update: MemberUpdate, now: float) -> Change:
        """Merge what somebody says of a member."""
        before = self._members.get(update.name)
        after, outcome = merge(before, update, now)
        if after is None or (before is None and not self._make_room()):
            return Change(outcome, before, None)
        self._members[update.name] = after
        self.meet(after.address)
        return Change(outcome, before, after)

    def expect(self, seeds: Iterable[Address], *, has_unresolved: bool = False) -> None:
        """Members are to be met at these addresses; in place of those expected before.

        `has_unresolved`: and at those of a name that has not resolved yet.
        """
        self._has_unresolved = has_unresolved
        wanted = set(seeds)
        known = {member.address for member in self._members.values()}
        self._met = wanted & (self._met | known)
        self._unmet = wanted - self._met

    def meet(self, address: Address) -> None:
        """Somebody was met at an address, a member or this node itself."""
        if address in self._unmet:
            self._unmet.discard(address)
            self._met.add(address)

    def forget_left(self, *, since_before: float) -> None:
        """Drop members that left before that time."""
        for member in self.others(MemberState.LEFT):
            if member.since < since_before:
                del self._members[member.name]

    @property
    def is_whole(self) -> bool:
        """Whether every member that has not left is live, and was met where one was expected."""
        return not self._unmet and not self.others(MemberState.DEAD)

    def ownership(self) -> Ownership:
        """The ownership view as it is now."""
        owners = sorted(m.name for m in self._members.values() if m.is_live and m.synced)
        digest = hashlib.blake2b(digest_size=VIEW_ID_BYTES)
        for name in owners:
            digest.update(name.encode())
            digest.update(b"\0" + self._members[name].boot_id.to_bytes(8, "big"))
        live = self.live_count()
        counted = sum(m.state is not MemberState.LEFT for m in self._members.values())
        counted += len(self._unmet)
        # Whoever knows nobody must not be the majority because a name does not resolve; whoever
        # knows others does not need the name to count them.
        counted += self._has_unresolved and len(self._members) == 1
        return Ownership(
            owners=tuple(owners),
            view_id=int.from_bytes(digest.digest(), "big"),
            quorate=2 * live > counted and not (self.is_cut_off and live > 1),
        )

    def refusal(self, name: NodeName, boot_id: BootId, address: Address) -> Refusal | None:
        """Why a handshake from such a node must be refused; None where it need not."""
        if name == self._my_name:
            return Refusal.SELF if boot_id == self.me.boot_id else Refusal.NAME_TAKEN
        if (known := self.get(name)) is None:
            return None if self.has_room() else Refusal.CLUSTER_FULL
        contested = known.is_live and boot_id != known.boot_id and address != known.address
        return Refusal.NAME_TAKEN if contested else None

    def has_room(self) -> bool:
        """Whether a newcomer may be let in, if need be in place of one that is gone."""
        return self.live_count() < MEMBERS_LIVE_MAX

    def _make_room(self) -> bool:
        if len(self._members) < MEMBERS_MAX:
            return True
        gone = self.others(MemberState.LEFT) or self.others(MemberState.DEAD)
        if not gone:
            return False
        del self._members[min(gone, key=lambda member: member.since).name]
        return True
