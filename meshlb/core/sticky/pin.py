"""The values of stickiness: a pin, a proposal to make one, and how a proposal ended.

Owns only shapes and the conversions between a pin and its form on the wire; which of two pins
wins is `merge`, who may make one is `claims`. Knows nothing of homes, peers or storage.

*Table time*, the unit of `expires_at`, is a clock that each node keeps for itself: wall-clock
seconds at the start of the process plus the monotonic seconds since. It never jumps while the
process lives, and it is comparable across a restart of the node, but never between nodes:
on the wire an expiry is a duration.

Spec: protocol/spec/pins.md.
"""

import enum
import math

from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey, value
from meshlb.wire.messages import PinRecord, Rank

NO_BACKEND = BackendName("")
"""The backend of a tombstone, and the `moved_from` of a first claim."""

MS_PER_S = 1000

NEVER = math.inf
"""The `ends_at` of a pin whose lifetime only its idleness bounds."""

EPOCH_MAX = 2**32 - 1
STAMP_MS_MAX = 2**48 - 1
"""What a store keeps of a pin; a record beyond either is a fault of its sender."""

LIFETIME_S_MAX = 400 * 86_400.0
"""No pin is kept longer than this, whatever a peer says."""


@value
class Pin:
    """The binding of one session key to one backend, as a node holds it."""

    pool: PoolName
    backend: BackendName
    """Empty for a tombstone: the key was unpinned, and older pins must not come back."""
    by: KeySource
    epoch: int
    """How often the key was pinned anew; a higher epoch always wins."""
    rank: Rank
    """How firmly the pin was made; only `Rank.QUORATE` is agreed by home and backup."""
    stamp_ms: int
    """The claimer's hybrid logical clock; shown to people as the wall-clock time of the pin."""
    claimer: NodeName
    """The node whose client asked for the pin: the `made_by` of `meshlb explain`."""
    expires_at: float
    """Table time at which it has been idle for too long; never above `ends_at`."""
    ends_at: float = NEVER
    """Table time at which `max_age` ends it, whatever its use."""

    @property
    def is_tombstone(self) -> bool:
        """True where the key was unpinned; a tombstone is never routed by."""
        return not self.backend

    def is_live(self, now: float) -> bool:
        """True where a request may follow this pin at table time `now`."""
        return bool(self.backend) and self.expires_at > now


@value
class Proposal:
    """What a node would pin a key to, if nobody has pinned it yet."""

    key: SessionKey
    pool: PoolName
    backend: BackendName
    by: KeySource
    ttl_s: float
    """Idle lifetime: each use sets the expiry anew, to this many seconds ahead."""
    max_age_s: float | None
    """Lifetime since the pin was made, whatever its use; None for no such bound."""
    moved_from: BackendName = NO_BACKEND
    """The pinned backend that the claimer found unusable; empty for a first claim."""
    moved_from_epoch: int = 0
    """The epoch of the pin to `moved_from`; the claim loses against any later epoch."""

    def rejects(self, pin: Pin) -> bool:
        """True where `pin` is what the claimer wants to move away from, or older."""
        return rejects(self.moved_from, self.moved_from_epoch, pin)


def rejects(moved_from: BackendName, moved_from_epoch: int, pin: Pin) -> bool:
    """True where a claim with these fields is not content with `pin`."""
    return pin.epoch < moved_from_epoch or (
        pin.epoch == moved_from_epoch and pin.backend == moved_from
    )


class ClaimOutcome(enum.StrEnum):
    """How a claim ended; the label of the counter of pins."""

    HIT = "hit"
    """The key had a live pin already, made by somebody else."""
    NEW = "new"
    """The proposal became the pin."""
    MOVED = "moved"
    """The proposal replaced a pin whose backend was unusable."""
    PROVISIONAL = "provisional"
    """The cluster did not answer in time: the pin is this node's word alone."""


def is_acceptable(record: PinRecord | Pin) -> bool:
    """False for what no honest member sends: it could not be stored."""
    return record.epoch <= EPOCH_MAX and record.stamp_ms <= STAMP_MS_MAX


def epoch_after(epoch: int) -> int:
    """The epoch of what follows; the last one has itself, so that it can be stored."""
    return min(epoch + 1, EPOCH_MAX)


def pin_from_record(record: PinRecord, *, now: float) -> Pin:
    """The pin that `record` describes, received at table time `now`."""
    lifetime_s = record.expires_in_ms / MS_PER_S
    if lifetime_s > LIFETIME_S_MAX:  # a comparison takes half the time of `min`
        lifetime_s = LIFETIME_S_MAX
    expires_at, ends_at = now + lifetime_s, NEVER
    if record.ends_in_ms:
        ends_at = now + min(record.ends_in_ms / MS_PER_S, LIFETIME_S_MAX)
        expires_at = min(expires_at, ends_at)
    return Pin(
        record.pool,
        record.backend,
        record.by,
        record.epoch,
        record.rank,
        record.stamp_ms,
        record.claimer,
        expires_at,
        ends_at,
    )


def record_from_pin(key: SessionKey, pin: Pin, *, now: float) -> PinRecord:
    """`pin` as it travels at table time `now`; an expired one has no time left."""
    return PinRecord(
        key,
        pin.pool,
        pin.backend,
        pin.by,
        pin.epoch,
        pin.rank,
        pin.stamp_ms,
        pin.claimer,
        max(0, round((pin.expires_at - now) * MS_PER_S)),
        0 if pin.ends_at == NEVER else max(1, round((pin.ends_at - now) * MS_PER_S)),
    )
