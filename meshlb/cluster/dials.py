"""When to dial the members that should have a stream and have none.

Owns whose turn it is and how long to wait between attempts. Must not know how to dial, nor why
there is no stream.
"""

from typing import Final

from meshlb.model import NodeName

DIAL_SECOND_S: Final = 0.5
"""The head start of the lower of two names, so that seldom both dial."""

DIAL_WAIT_S_MAX: Final = 5.0
"""The longest wait between dials to a member."""


class Dials:
    """The live members without a stream; bounded by the view."""

    def __init__(self, me: NodeName) -> None:
        self._me = me
        self._next: dict[NodeName, tuple[float, float]] = {}
        """When each is due, and how long to wait after that."""

    def is_due(self, member: NodeName, now: float) -> bool:
        """Whether to dial `member` now; asked a few times a second while it has no stream."""
        if member not in self._next:
            head_start_s = 0.0 if self._me < member else DIAL_SECOND_S
            self._next[member] = (now + head_start_s, DIAL_SECOND_S)
        due, wait_s = self._next[member]
        if now < due:
            return False
        self._next[member] = (now + wait_s, min(2 * wait_s, DIAL_WAIT_S_MAX))
        return True

    def done(self, member: NodeName) -> None:
        """It has a stream, or is gone: the next time begins anew."""
        self._next.pop(member, None)
