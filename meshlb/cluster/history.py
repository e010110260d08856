"""What happened to a session key, as this node saw it: the evidence behind `meshlb explain`.

Owns a bounded, node-local record of pins made, moved and removed. It is for people: nothing is
decided by it, and it ends with the process.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from meshlb.core.sticky.pin import NO_BACKEND, Pin
from meshlb.model import BackendName, NodeName, SessionKey
from meshlb.wire.messages import PinRecord, Rank

KEYS_MAX: Final = 20_000
"""The keys that changed last."""

NOTES_PER_KEY_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Note:
    """A change of a pin."""

    at: float
    """Table time in seconds, which is wall-clock time for people."""
    what: str
    """One line for people, such as `moved from s1 to s2 by lb-3, epoch 1: s1 is in maintenance`.
    The reason is known to the node that had it moved."""


_Seen = tuple[BackendName, int, int, int, NodeName, NodeName, float]
"""What a pin said: backend, epoch, rank, stamp and claimer; who told it, and when. A plain tuple of
plain values, so that the collector of garbage need not go through it."""


class History:
    """One per node."""

    def __init__(self) -> None:
        self._latest: OrderedDict[SessionKey, _Seen] = OrderedDict()
        self._earlier: dict[SessionKey, list[_Seen]] = {}
        self._whys: OrderedDict[tuple[SessionKey, int], str] = OrderedDict()
        """Why this node wants a key to move away from the pin of an epoch."""

    def moving(self, key: SessionKey, from_epoch: int, why: str) -> None:
        """This node claims `key` anew, since it cannot follow the pin of that epoch."""
        self._whys[key, from_epoch] = why
        if len(self._whys) > KEYS_MAX:
            self._whys.popitem(last=False)

    def note(self, key: SessionKey, pin: Pin | PinRecord, *, teller: NodeName, now: float) -> None:
        """`teller` has told of `pin`; ignored where it only tells the latest change again."""
        backend, epoch, rank, stamp_ms = pin.backend, pin.epoch, int(pin.rank), pin.stamp_ms
        latest = self._latest.get(key)
        if latest is None:
            if len(self._latest) >= KEYS_MAX:
                forgotten, _ = self._latest.popitem(last=False)
                self._earlier.pop(forgotten, None)
        elif latest[:4] == (backend, epoch, rank, stamp_ms):
            return
        else:
            earlier = self._earlier.setdefault(key, [])
            earlier.append(latest)
            del earlier[: 1 - NOTES_PER_KEY_MAX]
        self._latest[key] = (backend, epoch, rank, stamp_ms, pin.claimer, teller, now)

    def of(self, key: SessionKey) -> tuple[Note, ...]:
        """The latest changes of a key, the oldest first."""
        latest = self._latest.get(key)
        if latest is None:
            return ()
        notes: list[Note] = []
        before = NO_BACKEND
        for backend, epoch, rank, _, claimer, teller, at in (*self._earlier.get(key, ()), latest):
            why = self._whys.get((key, epoch - 1)) if backend else None
            what = _what(backend, epoch, before, is_first=not notes)
            how = "" if rank == Rank.QUORATE else f", {Rank(rank).name.lower()}"
            told = "" if teller == claimer else f" (told by {teller})"
            line = f"{what} by {claimer}, epoch {epoch}{how}{told}"
            notes.append(Note(at, f"{line}: {why}" if why else line))
            before = backend
        return tuple(notes)


def _what(backend: BackendName, epoch: int, before: BackendName, *, is_first: bool) -> str:
    if not backend:
        return "unpinned"
    if before not in (NO_BACKEND, backend):
        return f"moved from {before} to {backend}"
    return f"moved to {backend}" if epoch and is_first else f"pinned to {backend}"
