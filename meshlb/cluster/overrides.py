"""The operator's word on backends, alike on all nodes: the latest one stays.

Owns the overrides and their order. Must not know health checks or routing; whoever cares is told
of each change. Every member sends all it knows on each new stream, so a word reaches also those
that were away when it was spoken.

Spec: protocol/spec/replication.md, "Overrides".
"""

from typing import Final

from meshlb.model import BackendName, BackendState, NodeName, PoolName
from meshlb.wire.messages import BackendOverride

OVERRIDES_MAX: Final = 10_000
"""Backends with a word on them; beyond, words on others are not taken."""

OPERATOR_STATES: Final = frozenset(
    {BackendState.UP, BackendState.DRAINING, BackendState.MAINTENANCE}
)
"""What an operator may say; `UP` leaves it to the health checks."""


class Overrides:
    """One per node."""

    def __init__(self, me: NodeName) -> None:
        self._me = me
        self._words: dict[tuple[PoolName, BackendName], BackendOverride] = {}

    def say(
        self, pool: PoolName, backend: BackendName, state: BackendState, *, wall_ms: int
    ) -> BackendOverride:
        """A word of this node's operator, later than all known ones on that backend."""
        assert state in OPERATOR_STATES
        known = self._words.get((pool, backend))
        stamp_ms = max(wall_ms, known.stamp_ms + 1 if known else 0)
        word = BackendOverride(pool, backend, state, stamp_ms, self._me)
        self.hear(word)
        return word

    def hear(self, word: BackendOverride) -> bool:
        """Take a word in; True where it is the latest on its backend."""
        place = (word.pool, word.backend)
        known = self._words.get(place)
        if word.state not in OPERATOR_STATES:
            return False
        if known is None:
            if len(self._words) >= OVERRIDES_MAX:
                return False
        elif (word.stamp_ms, word.by) <= (known.stamp_ms, known.by):
            return False
        self._words[place] = word
        return True

    def all(self) -> tuple[BackendOverride, ...]:
        """Every word, in the order in which their backends were first spoken of."""
        return tuple(self._words.values())
