"""What the node hears of its own view: changes of members and of ownership.

Owns: the ownership view last told of. Must not know: why a member changed.
Spec: protocol/spec/membership.md, "View".
"""

from dataclasses import replace

from meshlb.core.swim.events import MemberChanged, ViewChanged
from meshlb.core.swim.member import Member
from meshlb.core.swim.outbox import Outbox
from meshlb.core.swim.view import Ownership, View
from meshlb.model import MemberState


class Reporter:
    """Turns changes of the view into effects for the node."""

    def __init__(self, view: View, outbox: Outbox) -> None:
        self._view = view
        self._outbox = outbox
        self.ownership: Ownership = view.ownership()
        """The ownership view that the last `ViewChanged` told of."""

    def report(self, before: Member | None, after: Member, reason: str) -> None:
        """Tell the node of a member, and of the owners if they changed with it."""
        if _is_visible(before, after):
            self._outbox.emit(MemberChanged(after, before.state if before else None, reason))
        self.review()

    def review(self) -> None:
        """Tell the node of the owners and the quorum if they have changed."""
        ownership = self._view.ownership()
        if ownership != self.ownership:
            self.ownership = ownership
            self._outbox.emit(ViewChanged(ownership.owners, ownership.view_id, ownership.quorate))


def _is_visible(before: Member | None, after: Member) -> bool:
    """Whether more changed than who said so; one that left before we knew it is no news."""
    if before is None:
        return after.state is not MemberState.LEFT
    same_report = replace(
        before, incarnation=after.incarnation, reporter=after.reporter, since=after.since
    )
    return same_report != after
