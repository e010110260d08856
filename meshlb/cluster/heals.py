"""After a heal: how many pins have moved, and which.

Owns the account of what members changed in each other's tables once a partition between them had
ended. A heal begins when a member that was taken for dead comes back without having started anew,
and is over when no other has come back for `HEAL_S`. It is for people: nothing is decided by it.

Spec: protocol/spec/minority.md.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from meshlb.core.sticky.pin import Pin
from meshlb.model import BackendName, NodeName, PoolName, SessionKey
from meshlb.wire.messages import PinRecord

HEAL_S: Final = 10.0
"""What a heal may take: views agree and tables are merged within this."""

HEALS_MAX: Final = 16
"""The latest ones are kept."""

MOVES_LISTED_MAX: Final = 1_000
"""Moves of one heal that are told by key; of those beyond only the number."""

_log = structlog.get_logger("meshlb.cluster")


@dataclass(frozen=True, slots=True)
class Move:
    """A live pin that another one has replaced."""

    key: SessionKey
    pool: PoolName
    moved_from: BackendName
    moved_to: BackendName
    """Empty: it was unpinned on the other side."""


@dataclass(slots=True)
class Heal:
    """One heal, as this node saw it."""

    began_at: float
    """Table time."""
    members: set[NodeName]
    """Those that came back."""
    moves: list[Move]
    moved: int = 0
    is_over: bool = False


class Heals:
    """One per node; all times are table time."""

    def __init__(self) -> None:
        self.moved = 0
        """Pins moved by heals since the start."""
        self.count = 0
        """Heals since the start."""
        self._heals: deque[Heal] = deque(maxlen=HEALS_MAX)
        self._over_at = math.inf

    @property
    def is_open(self) -> bool:
        """True while moves are counted."""
        return self._over_at < math.inf

    def returned(self, member: NodeName, now: float) -> None:
        """`member`, which was taken for dead, is alive, and has been all the time."""
        if not self.is_open:
            self._heals.append(Heal(now, set(), []))
            self.count += 1
        self._heals[-1].members.add(member)
        self._over_at = now + HEAL_S

    def before(
        self, records: Iterable[PinRecord], get: Callable[[SessionKey], Pin | None], now: float
    ) -> list[tuple[SessionKey, Pin]]:
        """The live pins that `records` may replace; to be given to `after`."""
        if not self.is_open:
            return []
        known = ((record.key, get(record.key)) for record in records)
        return [(key, pin) for key, pin in known if pin is not None and pin.is_live(now)]

    def after(
        self, known: Iterable[tuple[SessionKey, Pin]], get: Callable[[SessionKey], Pin | None]
    ) -> None:
        """Note which of these were replaced by now."""
        for key, pin in known:
            now_there = get(key)
            if now_there is not None and now_there.backend != pin.backend:
                self._note(Move(key, pin.pool, pin.backend, now_there.backend))

    def _note(self, move: Move) -> None:
        heal = self._heals[-1]
        heal.moved += 1
        self.moved += 1
        if len(heal.moves) < MOVES_LISTED_MAX:
            heal.moves.append(move)

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do; infinity for never."""
        return self._over_at

    def handle_timer(self, now: float) -> None:
        """End the heal if its time is over."""
        if now < self._over_at:
            return
        self._over_at = math.inf
        heal = self._heals[-1]
        heal.is_over = True
        _log.warning(
            "a partition has healed",
            members=sorted(heal.members),
            pins_moved=heal.moved,
            keys=[move.key.hex() for move in heal.moves[:8]],
        )

    def all(self) -> tuple[Heal, ...]:
        """The latest heals, the oldest first."""
        return tuple(self._heals)
