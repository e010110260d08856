"""The stick table of a process that has given its own away: it knows no key, and makes no pin.

Implements `StickTable` for the time in which what runs ends, and nothing begins.
"""

from collections.abc import Callable
from typing import Final, NoReturn

from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import NoQuorumError
from meshlb.model import SessionKey

_REASON: Final = "another process of this node goes on with its sessions"


class ClosedTable:
    """Whoever asks it all the same is told that this node cannot begin a session."""

    is_strict: Final = True

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        """Nothing."""
        return None

    def claim_soon(
        self, proposal: Proposal, on_done: Callable[[Pin | NoQuorumError], None]
    ) -> None:
        """Refused at once."""
        on_done(NoQuorumError(_REASON))

    async def claim(self, proposal: Proposal) -> NoReturn:
        """Refused.

        Raises:
            NoQuorumError: always.
        """
        raise NoQuorumError(_REASON)

    def plant(self, proposal: Proposal, *, epoch: int | None = None) -> NoReturn:
        """Refused.

        Raises:
            NoQuorumError: always.
        """
        raise NoQuorumError(_REASON)

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        """There is nothing to keep alive."""
