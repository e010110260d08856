"""Smooth weighted round robin: each in turn, the heavier more often, never in a burst.

The algorithm is nginx's: at each choice every candidate gains its weight, the richest is picked
and pays the sum of all weights. Weights 5, 1, 1 give a a b a c a a.
"""

from collections.abc import Sequence

from meshlb.core.balance.candidate import C
from meshlb.model import BackendName

BACKENDS_MAX = 4_096
"""Names remembered; more come together only over many reloads, and are then forgotten."""


class RoundRobin:
    """Implements `Policy`."""

    __slots__ = ("_credit",)

    def __init__(self) -> None:
        self._credit: dict[BackendName, int] = {}

    def choose(self, candidates: Sequence[C], key: bytes = b"") -> C | None:
        """The next in turn; `key` does not matter. Of equals, the first in order."""
        credit = self._credit
        if len(credit) > BACKENDS_MAX:
            credit.clear()
        total = 0
        best: C | None = None
        best_credit = 0
        for candidate in candidates:
            weight = candidate.weight
            if weight <= 0:
                continue
            total += weight
            gained = credit[candidate.name] = credit.get(candidate.name, 0) + weight
            if best is None or gained > best_credit:
                best, best_credit = candidate, gained
        if best is not None:
            credit[best.name] = best_credit - total
        return best
