"""A hybrid logical clock: stamps that follow wall-clock time and never go back.

Owns the last stamp of this node. The wall clock is an argument; table time serves, since it is
wall-clock seconds. A stamp is later than every stamp seen before it was drawn, except those of a
peer whose clock runs so far ahead that following it would do more harm.

Spec: protocol/spec/pins.md, "Stamps".
"""

from meshlb.core.sticky.pin import MS_PER_S

DRIFT_MS_MAX = 60_000
"""A stamp further ahead of our clock than this is not followed."""


class StampClock:
    """Draws stamps in milliseconds."""

    __slots__ = ("_last_ms",)

    def __init__(self) -> None:
        self._last_ms = 0

    @property
    def last_ms(self) -> int:
        """The latest stamp that was drawn or observed."""
        return self._last_ms

    def draw(self, now: float) -> int:
        """The next stamp: greater than any drawn before; `now` in wall-clock seconds."""
        self._last_ms = max(self._last_ms + 1, int(now * MS_PER_S))
        return self._last_ms

    def observe(self, stamp_ms: int, now: float) -> None:
        """Draw later ones than `stamp_ms`, which a peer drew, from now on."""
        if self._last_ms < stamp_ms <= now * MS_PER_S + DRIFT_MS_MAX:
            self._last_ms = stamp_ms
