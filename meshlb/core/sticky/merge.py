"""Which of two pins of one key stays: the join that makes all replicas equal in the end.

Owns the order of pins and the tombstone. Pure arithmetic on two values: it must not know the
time, the table or who asks; what a node does with *dead* pins is `replica`'s rule.

A pin's identity is everything but its lifetime. Of two identities the greater one stays, ordered
by (epoch, rank, earliest stamp, claimer, then every other field, so that the order is total). Of
one identity, `expires_at` is a max-register (a touch extends it) and `ends_at` a min-register
(a delivery can only delay it). Both together are a join: commutative, associative, idempotent.

Spec: protocol/spec/pins.md, "Merge".
"""

from meshlb.core.sticky.pin import MS_PER_S, NO_BACKEND, Pin, epoch_after
from meshlb.model import NodeName
from meshlb.wire.messages import Rank

TOMBSTONE_GRACE_S = 3_600.0
"""How long a tombstone is kept at least; who starts after longer than that pulls anew."""

TOMBSTONE_FADES_S = 600.0
"""A tombstone with less time left than this is prolonged while a member is away that may hold what
it buries: ten times what a sweep of a million records takes."""

TOMBSTONE_HELD_S_MAX = 30 * 86_400.0
"""A tombstone older than this is not prolonged: the member is not expected back."""

_Order = tuple[int, int, int, str, str, str, str]


def order(pin: Pin) -> _Order:
    """What pins of one key are compared by; equal only for one identity."""
    return (pin.epoch, pin.rank, -pin.stamp_ms, pin.claimer, pin.backend, pin.pool, pin.by)


def same_pin(one: Pin, other: Pin) -> bool:
    """True where the two differ in nothing but their lifetime."""
    return (
        one.stamp_ms == other.stamp_ms  # what differs most, first
        and one.claimer == other.claimer
        and one.backend == other.backend
        and one.epoch == other.epoch
        and one.rank == other.rank
        and one.pool == other.pool
        and one.by == other.by
    )


def merge(mine: Pin, theirs: Pin) -> Pin:
    """The join of two pins of one key; `mine` itself where `theirs` adds nothing."""
    if mine.epoch != theirs.epoch:  # the usual case, and the cheapest
        return mine if mine.epoch > theirs.epoch else theirs
    if not same_pin(mine, theirs):
        return mine if order(mine) > order(theirs) else theirs
    ends_at = min(mine.ends_at, theirs.ends_at)
    expires_at = min(max(mine.expires_at, theirs.expires_at), ends_at)
    if expires_at == mine.expires_at and ends_at == mine.ends_at:
        return mine
    return with_lifetime(mine, expires_at=expires_at, ends_at=ends_at)


def with_lifetime(pin: Pin, *, expires_at: float, ends_at: float) -> Pin:
    """`pin` with another lifetime (`dataclasses.replace` takes eight times as long)."""
    return Pin(
        pin.pool,
        pin.backend,
        pin.by,
        pin.epoch,
        pin.rank,
        pin.stamp_ms,
        pin.claimer,
        expires_at,
        ends_at,
    )


def is_conflict(one: Pin, other: Pin) -> bool:
    """True where two pins should not both exist: the agreement was broken by a double fault."""
    return (
        one.epoch == other.epoch
        and one.rank == other.rank == Rank.QUORATE
        and one.backend != other.backend
        and bool(one.backend)
        and bool(other.backend)
    )


def tombstone(pin: Pin, *, stamp_ms: int, by: NodeName, now: float) -> Pin:
    """What takes the place of `pin` when it is unpinned at table time `now`.

    It stays as long as any copy of `pin` may still live, and for the grace period at least.
    """
    return Pin(
        pin.pool,
        NO_BACKEND,
        pin.by,
        epoch_after(pin.epoch),
        Rank.QUORATE,
        stamp_ms,
        by,
        max(pin.expires_at, now) + TOMBSTONE_GRACE_S,
    )


def prolonged(stone: Pin, *, now: float) -> Pin | None:
    """`stone` with another grace period; None where it has been kept for long enough."""
    if now - stone.stamp_ms / MS_PER_S > TOMBSTONE_HELD_S_MAX:
        return None
    return with_lifetime(stone, expires_at=now + TOMBSTONE_GRACE_S, ends_at=stone.ends_at)
