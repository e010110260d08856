"""The operator's word on backends, alike on all nodes: the latest one stays.

Owns the overrides, their order, and that they outlast the process. Must not know health checks or
routing; whoever cares is told of each change. Every member passes on a word that is news to it,
and sends all it knows on each new stream, so a word reaches also those that were away when it was
spoken, and by whatever way there is.

Spec: protocol/spec/replication.md, "Overrides".
"""

from collections.abc import Iterable
from typing import Final, Protocol

import structlog

from meshlb.errors import StoreError
from meshlb.model import BackendName, BackendState, NodeName, PoolName
from meshlb.wire.limits import MESSAGES_PER_FRAME_MAX
from meshlb.wire.messages import BackendOverride

OVERRIDES_MAX: Final = MESSAGES_PER_FRAME_MAX
"""Backends with a word on them: one batch, on a stream and on disk. Beyond, words on others are
not taken."""

STAMP_MS_MAX: Final = 2**64 - 1
"""What travels as a stamp."""

OPERATOR_STATES: Final = frozenset(
    {BackendState.UP, BackendState.DRAINING, BackendState.MAINTENANCE}
)
"""What an operator may say; `UP` leaves it to the health checks."""


_log = structlog.get_logger("meshlb.cluster")


class Keeper(Protocol):
    """Where the words outlast the process: a file in production."""

    def load(self) -> tuple[BackendOverride, ...]:
        """What was saved last."""
        ...

    def save(self, words: Iterable[BackendOverride]) -> None:
        """Keep these in the place of what was there.

        Raises:
            StoreError: they cannot be written.
        """
        ...


class Overrides:
    """One per node."""

    def __init__(self, me: NodeName, keeper: Keeper) -> None:
        """Begin with what `keeper` has.

        Raises:
            StoreError: that cannot be read.
        """
        self._me = me
        self._keeper = keeper
        self._words: dict[tuple[PoolName, BackendName], BackendOverride] = {}
        for word in keeper.load():
            self.hear(word)
        self._is_kept = True

    def say(
        self, pool: PoolName, backend: BackendName, state: BackendState, *, wall_ms: int
    ) -> BackendOverride:
        """A word of this node's operator, later than all known ones on that backend."""
        assert state in OPERATOR_STATES
        known = self._words.get((pool, backend))
        stamp_ms = min(max(wall_ms, known.stamp_ms + 1 if known else 0), STAMP_MS_MAX)
        word = BackendOverride(pool, backend, state, stamp_ms, self._me)
        self.hear(word)
        self.keep()
        return word

    def hear(self, word: BackendOverride) -> bool:
        """Take a word in; True where it is news. `keep` has it outlast the process."""
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
        self._is_kept = False
        return True

    def keep(self) -> None:
        """Write what is not written yet. A disk that fails must not keep an operator waiting."""
        if self._is_kept:
            return
        try:
            self._keeper.save(self._words.values())
        except StoreError as error:
            _log.error(
                "what operators have said of backends could not be written, and is lost at this"
                " node if it stops",
                reason=str(error),
            )
        else:
            self._is_kept = True

    def on(self, pool: PoolName, backend: BackendName) -> BackendOverride | None:
        """The latest word on a backend; None where no operator has spoken of it."""
        return self._words.get((pool, backend))

    def all(self) -> tuple[BackendOverride, ...]:
        """Every word, in the order in which their backends were first spoken of."""
        return tuple(self._words.values())
