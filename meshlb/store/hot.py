"""What was looked up lately: pins, decoded, and keys that have none. Spares the way to the disk.

Owns two bounded caches. In that of pins two generations stand in for "least recently used": a hit
costs one look-up in a dict, and nothing is ever moved to make room.
"""

from typing import Final

from meshlb.core.sticky.pin import Pin
from meshlb.model import SessionKey

HOT_PINS_MAX: Final = 65_536

ABSENT_KEYS_MAX: Final = 16_384
"""Keys without a record that are remembered; with one more all are forgotten."""


class HotPins:
    """What is used within one generation stays for the next; the rest goes with the old one."""

    __slots__ = ("_generation_max", "_old", "absent", "young")

    def __init__(self, *, pins_max: int = HOT_PINS_MAX) -> None:
        self._generation_max = pins_max // 2
        self.young: dict[SessionKey, Pin] = {}
        self._old: dict[SessionKey, Pin] = {}
        self.absent: set[SessionKey] = set()
        """Keys known to have no record: a new one is asked for a dozen times."""

    def __len__(self) -> int:
        """Pins held, those in both generations twice."""
        return len(self.young) + len(self._old)

    def get(self, key: SessionKey) -> Pin | None:
        """The pin, if it is here."""
        pin = self.young.get(key)
        if pin is None:
            pin = self._old.get(key)
            if pin is not None:
                self.put(key, pin)
        return pin

    def put(self, key: SessionKey, pin: Pin) -> None:
        """Remember `pin`, in place of what was remembered for `key`."""
        if len(self.young) >= self._generation_max and key not in self.young:
            self._old = self.young
            self.young = {}
        self.young[key] = pin
        self.absent.discard(key)

    def drop(self, key: SessionKey) -> None:
        """Forget `key`."""
        self.young.pop(key, None)
        self._old.pop(key, None)

    def note_absent(self, key: SessionKey) -> None:
        """There is no record of `key`, until `put`."""
        if len(self.absent) >= ABSENT_KEYS_MAX:
            self.absent.clear()
        self.absent.add(key)
