"""What a sweep does with each record that it looks at.

Owns the rule, as a pure function of values and the time. Must not know LMDB, nor when to sweep.

An expired pin is retired first, that is, no longer counted, and removed once it lingers no more;
a tombstone is removed when its grace is over, unless it is prolonged before that. A provisional
pin that lives is pointed out: nobody may remember that it is to be agreed on.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from meshlb.core.sticky.lifetime import LINGER_S_MAX
from meshlb.core.sticky.merge import TOMBSTONE_FADES_S
from meshlb.core.sticky.pin import MS_PER_S
from meshlb.model import SessionKey
from meshlb.store.packing import (
    expiry_ms,
    is_provisional,
    is_retired,
    is_tombstone,
    is_well,
    is_whole,
    retired,
)

SWEEP_PINS_MAX: Final = 1_000
"""Records that one step of the sweep looks at: about half a millisecond."""

SWEEP_DEAD_MAX: Final = 1_000
"""Dead ones after which a step ends early: each costs some microseconds more."""


@dataclass(slots=True)
class Swept:
    """What a step of the sweep has found."""

    removed: dict[SessionKey, bytes] = field(default_factory=dict)
    retiring: list[tuple[SessionKey, bytes]] = field(default_factory=list)
    """With their new values."""
    uncounted: list[bytes] = field(default_factory=list)
    """The values of pins that were counted until now."""
    provisional: list[SessionKey] = field(default_factory=list)
    """Live pins that the cluster has not agreed on yet."""
    stopped_after: bytes | None = None
    """The last key that was looked at, where the step ended early."""

    def __len__(self) -> int:
        """Removed and retired."""
        return len(self.removed) + len(self.retiring)


def look_at(
    stored: Iterable[tuple[bytes, bytes]], *, prolongs: Callable[[SessionKey], bool], now: float
) -> Swept:
    """Judge records in the order of their keys.

    Args:
        stored: keys and values.
        prolongs: asked about each tombstone that fades; True where it is to stay.
        now: table time.
    """
    now_ms = round(now * MS_PER_S)
    gone_ms = round((now - LINGER_S_MAX) * MS_PER_S)
    fading_ms = round((now + TOMBSTONE_FADES_S) * MS_PER_S)
    swept = Swept()
    looked_at = b""
    for key, value in stored:
        if is_well(value, now_ms):
            looked_at = key
            continue
        if len(swept) >= SWEEP_DEAD_MAX:
            swept.stopped_after = looked_at
            break
        looked_at = key
        if not is_whole(value):
            swept.removed[SessionKey(key)] = value
            continue
        expired_ms = expiry_ms(value)
        if is_tombstone(value):
            is_kept = expired_ms > fading_ms or prolongs(SessionKey(key))
            if not is_kept and expired_ms <= now_ms:
                swept.removed[SessionKey(key)] = value
            continue
        if expired_ms > now_ms:
            if is_provisional(value):
                swept.provisional.append(SessionKey(key))
            continue
        if not is_retired(value):
            swept.uncounted.append(value)
        if expired_ms <= gone_ms:
            swept.removed[SessionKey(key)] = value
        elif not is_retired(value):
            swept.retiring.append((SessionKey(key), retired(value)))
    return swept
