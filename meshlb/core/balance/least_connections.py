"""Weighted least connections: the one with most room for its weight, in turn among equals.

Counts what this node sends; other nodes' connections are not known here.
"""

from collections.abc import Sequence

from meshlb.core.balance.candidate import C
from meshlb.core.balance.round_robin import RoundRobin


class LeastConnections:
    """Implements `Policy`."""

    __slots__ = ("_among_equals",)

    def __init__(self) -> None:
        self._among_equals = RoundRobin()

    def choose(self, candidates: Sequence[C], key: bytes = b"") -> C | None:
        """The one whose load, with this session, is least for its weight; `key` does not matter."""
        idlest: list[C] = []
        for candidate in candidates:
            if candidate.weight <= 0:
                continue
            if idlest:
                # Cross-multiplied, so that equal loads are equal without rounding.
                load = (candidate.connections + 1) * idlest[0].weight
                least = (idlest[0].connections + 1) * candidate.weight
                if load > least:
                    continue
                if load < least:
                    idlest.clear()
            idlest.append(candidate)
        return self._among_equals.choose(idlest)
