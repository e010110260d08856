"""What happened to a session key, as this node saw it: the evidence behind `meshlb explain`.

Owns a bounded, node-local record of pins made, moved and removed. It is for people: nothing is
decided by it, and it ends with the process.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from meshlb.core.sticky.pin import Pin
from meshlb.model import NodeName, SessionKey
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


class _Trace:
    __slots__ = ("identity", "notes")

    def __init__(self) -> None:
        self.identity: tuple[object, ...] = ()
        # A list: most keys have one note, and an empty deque takes half a kilobyte.
        self.notes: list[tuple[float, Pin | PinRecord, NodeName]] = []


class History:
    """One per node."""

    def __init__(self) -> None:
        self._traces: OrderedDict[SessionKey, _Trace] = OrderedDict()
        self._whys: OrderedDict[tuple[SessionKey, int], str] = OrderedDict()
        """Why this node wants a key to move away from the pin of an epoch."""

    def moving(self, key: SessionKey, from_epoch: int, why: str) -> None:
        """This node claims `key` anew, since it cannot follow the pin of that epoch."""
        self._whys[key, from_epoch] = why
        if len(self._whys) > KEYS_MAX:
            self._whys.popitem(last=False)

    def note(self, key: SessionKey, pin: Pin | PinRecord, *, teller: NodeName, now: float) -> None:
        """`teller` has told of `pin`; ignored where it only tells the latest change again."""
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = _Trace()
            if len(self._traces) > KEYS_MAX:
                self._traces.popitem(last=False)
        identity = (pin.backend, pin.epoch, pin.rank, pin.stamp_ms)
        if trace.identity != identity:
            trace.identity = identity
            trace.notes.append((now, pin, teller))
            del trace.notes[:-NOTES_PER_KEY_MAX]

    def of(self, key: SessionKey) -> tuple[Note, ...]:
        """The latest changes of a key, the oldest first."""
        trace = self._traces.get(key)
        if trace is None:
            return ()
        notes = []
        earlier: Pin | PinRecord | None = None
        for at, pin, teller in trace.notes:
            why = self._whys.get((key, pin.epoch - 1)) if pin.backend else None
            notes.append(Note(at, _line(pin, earlier, teller) + (f": {why}" if why else "")))
            earlier = pin
        return tuple(notes)


def _line(pin: Pin | PinRecord, earlier: Pin | PinRecord | None, teller: NodeName) -> str:
    if not pin.backend:
        what = "unpinned"
    elif earlier is not None and earlier.backend not in ("", pin.backend):
        what = f"moved from {earlier.backend} to {pin.backend}"
    elif pin.epoch and earlier is None:
        what = f"moved to {pin.backend}"
    else:
        what = f"pinned to {pin.backend}"
    rank = "" if pin.rank is Rank.QUORATE else f", {pin.rank.name.lower()}"
    told = "" if teller == pin.claimer else f" (told by {teller})"
    return f"{what} by {pin.claimer}, epoch {pin.epoch}{rank}{told}"
