"""A stick table that merges what it is told: the rules of pins, and nothing else of a member.

Times are milliseconds of one clock of the reader's own. Differences of lifetime that an
implementation MAY ignore are not ignored here.

Spec: ../spec/pins.md, "Merge".
"""

from dataclasses import dataclass, replace
from typing import Any

from protocol.reference.messages import SCHEMA

Record = dict[str, Any]
"""A PinRecord as the vectors write it."""

EPOCH_MAX = 2**32 - 1
STAMP_MS_MAX = 2**48 - 1
LIFETIME_MS_MAX = 400 * 86_400_000
TOMBSTONE_GRACE_MS = 3_600_000
QUORATE: int = SCHEMA["enum"]["Rank"]["QUORATE"]


@dataclass(frozen=True, slots=True)
class Pin:
    """A record as a member holds it; the lifetimes are points in time."""

    epoch: int
    rank: int
    stamp_ms: int
    claimer: str
    backend: str
    pool: str
    by: str
    expires_at: int
    ends_at: int | None
    """None: only its idleness ends it."""

    @property
    def order(self) -> tuple[Any, ...]:
        """J1; texts as bytes."""
        texts = (self.claimer, self.backend, self.pool, self.by)
        return (self.epoch, self.rank, -self.stamp_ms, *(text.encode() for text in texts))


def join(one: Pin, other: Pin) -> Pin:
    """J1 and J2, of two records that have time left."""
    if one.order != other.order:
        return max(one, other, key=lambda pin: pin.order)
    ends = [pin.ends_at for pin in (one, other) if pin.ends_at is not None]
    ends_at = min(ends, default=None)
    expires_at = max(one.expires_at, other.expires_at)
    if ends_at is not None:
        expires_at = min(expires_at, ends_at)
    return replace(one, expires_at=expires_at, ends_at=ends_at)


class Table:
    """The records of one member, by key in hexadecimal."""

    def __init__(self) -> None:
        """Empty."""
        self.records: dict[str, Pin] = {}

    def receive(self, record: Record, *, now_ms: int) -> None:
        """Take a record into account that arrives now."""
        if record["epoch"] > EPOCH_MAX or record["stamp_ms"] > STAMP_MS_MAX:
            return  # J5
        if not record["expires_in_ms"]:
            return  # J3
        theirs = _received(record, now_ms)
        mine = self.records.get(record["key"])
        if mine is None or mine.expires_at <= now_ms < theirs.expires_at:
            self.records[record["key"]] = theirs
        else:
            self.records[record["key"]] = join(mine, theirs)

    def unpin(self, key: str, *, stamp_ms: int, claimer: str, now_ms: int) -> None:
        """J4: an operator's word."""
        pin = self.records.get(key)
        if pin is None or not pin.backend or pin.expires_at <= now_ms:
            return
        self.records[key] = replace(
            pin,
            epoch=min(pin.epoch + 1, EPOCH_MAX),
            rank=QUORATE,
            stamp_ms=stamp_ms,
            claimer=claimer,
            backend="",
            expires_at=max(pin.expires_at, now_ms) + TOMBSTONE_GRACE_MS,
            ends_at=None,
        )

    def look_up(self, key: str, *, now_ms: int) -> str | None:
        """The backend to route by; None where nobody is routed."""
        pin = self.records.get(key)
        if pin is None or not pin.backend or pin.expires_at <= now_ms:
            return None
        return pin.backend


def _received(record: Record, now_ms: int) -> Pin:
    lifetime_ms = min(record["expires_in_ms"], LIFETIME_MS_MAX)
    ends_in_ms = min(record["ends_in_ms"], LIFETIME_MS_MAX)
    ends_at = now_ms + ends_in_ms if ends_in_ms else None
    return Pin(
        record["epoch"],
        record["rank"],
        record["stamp_ms"],
        record["claimer"],
        record["backend"],
        record["pool"],
        record["by"],
        now_ms + lifetime_ms if ends_at is None else min(now_ms + lifetime_ms, ends_at),
        ends_at,
    )
