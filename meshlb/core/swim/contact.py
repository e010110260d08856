"""Seeds and dead members are contacted for ever, so a healed partition merges by itself.

Owns: the addresses to dial and when each is due. Must not know: how to dial.
Spec: protocol/spec/membership.md, "Contact".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlb.core.swim.timings import Timings
from meshlb.core.swim.view import View
from meshlb.model import Address, MemberState, NodeName

if TYPE_CHECKING:
    from random import Random


@dataclass(slots=True)
class _Attempt:
    due_at: float
    wait_s: float


class Contacts:
    """The addresses without a live member that we know of; bounded by the view and the seeds."""

    def __init__(self, seeds: Iterable[Address], timings: Timings, rng: "Random") -> None:
        self.seeds = tuple(seeds)
        self._timings = timings
        self._rng = rng
        self._attempts: dict[Address, _Attempt] = {}

    def follow(self, view: View, streams: Iterable[NodeName], now: float) -> None:
        """Contact the seeds and the dead, but no address that a stream to a live member reaches.

        A new address is due at once, a known one when it was.
        """
        linked = [view.me, *filter(None, map(view.get, streams))]
        reached = {member.address for member in linked if member.is_live}
        dead = [member.address for member in view.others(MemberState.DEAD)]
        self._attempts = {
            address: self._attempts.get(address) or _Attempt(now, self._timings.contact_first_s)
            for address in (*self.seeds, *dead)
            if address not in reached
        }

    def next_deadline(self) -> float:
        """When the next address is due; infinity where none is wanted."""
        return min((attempt.due_at for attempt in self._attempts.values()), default=math.inf)

    def take_due(self, now: float) -> list[Address]:
        """The addresses to dial now; each is due again after a longer wait.

        The wait is drawn from its upper half, so that members do not dial in step.
        """
        due = [address for address, attempt in self._attempts.items() if attempt.due_at <= now]
        for address in due:
            attempt = self._attempts[address]
            attempt.due_at = now + attempt.wait_s * self._rng.uniform(0.5, 1.0)
            attempt.wait_s = min(2 * attempt.wait_s, self._timings.contact_max_s)
        return due
