"""Pins that this node holds as backup until their home has told everybody.

Owns those pins. They are not in the table yet, so nobody is routed by them: whether they count is
for the home to say. Must not know who is home, nor what to do with a pin that is released.

A home that crashes, stalls or is deposed between the backup's acknowledgement and its own log
leaves a pin with the backup alone. So the backup *announces* such a pin in the home's place: when
the view changes before the home's delta was seen, when a claimer asks for the key because the
home is silent, and when the home is silent for too long.

Spec: protocol/spec/pins.md, "Barrier".
"""

from collections import OrderedDict

from meshlb.core.sticky.pin import Pin
from meshlb.model import NodeName, SessionKey, value

HELD_S = 2.0
"""How long a home may take to tell everybody; far above its own time-out for making a pin."""

HELD_MAX = 65_536
"""Beyond, the oldest pin is announced at once."""

HeldPins = list[tuple[SessionKey, Pin]]


@value
class _Held:
    pin: Pin
    home: NodeName
    until: float


class Held:
    """Pins in the order in which they were acknowledged."""

    def __init__(self, *, pins_max: int = HELD_MAX) -> None:
        self._pins_max = pins_max
        # Not a dict: finding the first key of one that is emptied from the front is not O(1).
        self._held: OrderedDict[SessionKey, _Held] = OrderedDict()

    def __len__(self) -> int:
        """Pins that are held."""
        return len(self._held)

    def get(self, key: SessionKey) -> Pin | None:
        """The pin held for `key`."""
        held = self._held.get(key)
        return None if held is None else held.pin

    def add(self, key: SessionKey, pin: Pin, *, home: NodeName, now: float) -> HeldPins:
        """Hold a pin for `home`; the pins to announce because there are too many."""
        self._held.pop(key, None)
        self._held[key] = _Held(pin, home, now + HELD_S)
        if len(self._held) <= self._pins_max:
            return []
        oldest, held = self._held.popitem(last=False)
        return [(oldest, held.pin)]

    def see(self, key: SessionKey, teller: NodeName, *, epoch: int, rank: int) -> None:
        """`teller` is telling everybody of a pin of `key`."""
        held = self._held.get(key)
        if (
            held is not None
            and held.home == teller
            and (held.pin.epoch, held.pin.rank)
            <= (
                epoch,
                rank,
            )
        ):
            del self._held[key]

    def next_deadline(self) -> float | None:
        """When the oldest pin has been held for long enough."""
        return next(iter(self._held.values())).until if self._held else None

    def overdue(self, now: float) -> HeldPins:
        """Lets go of the pins to announce because their home is silent."""
        due: HeldPins = []
        while self._held and next(iter(self._held.values())).until <= now:
            key, held = self._held.popitem(last=False)
            due.append((key, held.pin))
        return due

    def release(self, key: SessionKey) -> HeldPins:
        """Lets go of the pin of `key`."""
        held = self._held.pop(key, None)
        return [] if held is None else [(key, held.pin)]

    def release_all(self) -> HeldPins:
        """Lets go of every pin."""
        due = [(key, held.pin) for key, held in self._held.items()]
        self._held.clear()
        return due
