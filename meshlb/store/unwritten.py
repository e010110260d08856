"""Pins that are in memory alone until the next commit: few as a rule, many while a disk is full.

Owns their order: by age, to forget the oldest, and by key, to be walked together with what is on
disk. The order of keys is kept only while somebody walks.
"""

from bisect import bisect_right, insort
from collections.abc import ItemsView, Iterator
from itertools import islice

from meshlb.core.sticky.pin import Pin
from meshlb.model import SessionKey


class Unwritten:
    """A dict of pins that can also be read in the order of keys."""

    __slots__ = ("_keys", "_pins")

    def __init__(self) -> None:
        self._pins: dict[SessionKey, Pin] = {}
        self._keys: list[SessionKey] | None = None
        """All keys in order; None where nobody has asked for that since they were written."""

    def __len__(self) -> int:
        return len(self._pins)

    def get(self, key: SessionKey) -> Pin | None:
        """The pin of `key`, if it is here."""
        return self._pins.get(key)

    def put(self, key: SessionKey, pin: Pin) -> None:
        """Keep `pin` until `clear`."""
        if self._keys is not None and key not in self._pins:
            insort(self._keys, key)
        self._pins[key] = pin

    def items(self) -> ItemsView[SessionKey, Pin]:
        """All, the oldest first."""
        return self._pins.items()

    def clear(self) -> None:
        """All have been written."""
        self._pins.clear()
        self._keys = None

    def forget_oldest(self, count: int) -> list[tuple[SessionKey, Pin]]:
        """Take out so many."""
        oldest = list(islice(self._pins.items(), max(0, count)))
        for key, _ in oldest:
            del self._pins[key]
        if oldest:
            self._keys = None
        return oldest

    def between(self, after: bytes, upto: bytes | None) -> Iterator[tuple[SessionKey, Pin]]:
        """In the order of keys: those behind `after`, up to and with `upto`, None for the end."""
        if not self._pins:
            return
        if self._keys is None:
            self._keys = sorted(self._pins)
        for place in range(bisect_right(self._keys, after), len(self._keys)):
            key = self._keys[place]
            if upto is not None and key > upto:
                return
            yield key, self._pins[key]
