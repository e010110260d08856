"""Alarms: at most one time for each key, and the earliest of them all.

Owns times, not what happens at them. Setting and clearing cost O(log n); a cleared alarm stays
in the heap until its time has come, so memory is bounded by alarms set per longest delay.
"""

import heapq

from meshlb.model import SessionKey


class Alarms:
    """When to look at which key again."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[SessionKey, float] = {}
        self._heap: list[tuple[float, SessionKey]] = []

    def set(self, key: SessionKey, at: float) -> None:
        """Wake `key` at `at`, and not when it was to be woken before."""
        if self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))

    def hasten(self, key: SessionKey, at: float) -> None:
        """Wake `key` at `at` at the latest."""
        if at < self._at[key]:
            self.set(key, at)

    def clear(self, key: SessionKey) -> None:
        """Do not wake `key`."""
        self._at.pop(key, None)

    def next(self) -> float | None:
        """The earliest alarm."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> SessionKey | None:
        """A key whose time has come; its alarm is cleared."""
        at = self.next()
        if at is None or at > now:
            return None
        key = heapq.heappop(self._heap)[1]
        del self._at[key]
        return key
