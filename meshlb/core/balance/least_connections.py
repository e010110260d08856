"""Weighted least connections: the fewest for its weight; among equals, in turn by weight."""

from collections.abc import Sequence

from meshlb.core.balance.candidate import C
from meshlb.core.balance.round_robin import RoundRobin


class LeastConnections:
    """Implements `Policy`."""

    __slots__ = ("_among_equals",)

    def __init__(self) -> None:
        self._among_equals = RoundRobin()

    def choose(self, candidates: Sequence[C], key: bytes = b"") -> C | None:
        """The one with the fewest connections for its weight; `key` does not matter."""
        idlest: list[C] = []
        for candidate in candidates:
            if candidate.weight <= 0:
                continue
            if idlest:
                # Cross-multiplied, so that equal loads are equal without rounding.
                load = candidate.load * idlest[0].weight
                least = idlest[0].load * candidate.weight
                if load > least:
                    continue
                if load < least:
                    idlest.clear()
            idlest.append(candidate)
        return self._among_equals.choose(idlest)
