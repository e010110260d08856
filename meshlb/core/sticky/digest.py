"""The table in 4,096 numbers: what two members compare to find the keys on which they differ.

Owns the hash of a record and the sums of these hashes per bucket, kept up to date with each
write. Must not know peers, nor how records are stored. A bucket is the range of the keys that
begin with its 12 bits, and its sum the XOR of the hashes of all its records: the order in which
they came does not matter, and taking one out is putting it in again.

What a hash covers is what the merge decides by, and not the lifetime: a touch changes nothing.
Expired pins and tombstones count for as long as they are in the table, which is a little longer
here than there; so equal sums prove equal tables, and of differing buckets only the records that
live are compared one by one (`live_hash`). What is dead here or there makes no difference.

Spec: protocol/spec/repair.md.
"""

import functools
import hashlib
import operator
import struct
from array import array
from collections.abc import Iterable
from typing import cast

from meshlb.core.sticky.merge import same_pin
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.replica import PinStore
from meshlb.model import SESSION_KEY_BYTES, SessionKey
from meshlb.wire.limits import BUCKETS
from meshlb.wire.messages import BucketNumber
from meshlb.wire.runs import Hash64

HASH_BYTES = 8
BUCKET_BITS = 12

NAMES_CACHED_MAX = 4_096

_from_big = int.from_bytes
_EMPTY = hashlib.blake2b(digest_size=HASH_BYTES, person=b"meshlb-bucket")
_FIXED = struct.Struct(">16sQBQ")
_SHIFT = 8 * SESSION_KEY_BYTES - BUCKET_BITS

assert 1 << BUCKET_BITS == BUCKETS


def bucket_of(key: SessionKey) -> BucketNumber:
    """The bucket of a key."""
    return BucketNumber(key[0] << 4 | key[1] >> 4)


def bucket_range(bucket: BucketNumber) -> tuple[SessionKey, SessionKey]:
    """The first and the last key that a bucket can have."""
    first, behind = bucket << _SHIFT, (bucket + 1) << _SHIFT
    return _key(first), _key(behind - 1)


def before(key: SessionKey) -> SessionKey | None:
    """The key right before `key`: what a scan that begins with `key` goes on after."""
    number = int.from_bytes(key, "big")
    return _key(number - 1) if number else None


def _key(number: int) -> SessionKey:
    return SessionKey(number.to_bytes(SESSION_KEY_BYTES, "big"))


def record_hash(key: SessionKey, pin: Pin) -> Hash64:
    """64 bits that differ wherever two records of a key differ in more than their lifetime."""
    state = _EMPTY.copy()  # half the time of a new one
    state.update(
        _FIXED.pack(key, pin.epoch, pin.rank, pin.stamp_ms)
        + _named(pin.backend, pin.claimer, pin.pool, pin.by)
    )
    return cast("Hash64", _from_big(state.digest(), "big"))


@functools.lru_cache(NAMES_CACHED_MAX)
def _named(*names: str) -> bytes:
    """The few names that millions of records repeat."""
    return "\0".join(names).encode()


def live_hash(records: Iterable[tuple[SessionKey, Pin]], now: float) -> Hash64:
    """The XOR of the hashes of the records that live at table time `now`, tombstones included."""
    total = 0
    for key, pin in records:
        if pin.expires_at > now:
            total ^= record_hash(key, pin)
    return Hash64(total)


class Buckets:
    """The sums over a table. Until `is_whole`, they cover the keys up to the last `count`ed.

    Attributes:
        is_whole: they are those of the whole table.
        changed: the buckets whose sums were changed, for whoever keeps them; he clears it.
    """

    __slots__ = ("_covered", "_sums", "_total", "changed", "is_whole")

    def __init__(self, sums: Iterable[int] | None = None) -> None:
        """`sums`: of a table with records; None: of no key at all, to be counted."""
        self.changed: set[int] = set()
        self.restart(sums)

    def restart(self, sums: Iterable[int] | None) -> None:
        """Another table takes the place of this one."""
        self.is_whole = sums is not None
        self._sums = array("Q", bytes(HASH_BYTES * BUCKETS) if sums is None else sums)
        assert len(self._sums) == BUCKETS
        self._total = functools.reduce(operator.xor, self._sums, 0)
        self._covered: SessionKey | None = None
        self.changed.clear()

    @property
    def total(self) -> Hash64:
        """The whole table in one number."""
        return Hash64(self._total)

    @property
    def covered(self) -> SessionKey | None:
        """Where to go on counting what was in the table at the start; None: at its beginning."""
        return self._covered

    def sums(self) -> tuple[Hash64, ...]:
        """The sum of each bucket, in order."""
        return tuple(map(Hash64, self._sums))

    def sum_of(self, bucket: int) -> Hash64:
        """The sum of one bucket."""
        return Hash64(self._sums[bucket])

    def packed(self) -> bytes:
        """All sums, 8 bytes each, for this machine."""
        return self._sums.tobytes()

    def differing(self, theirs: Iterable[int]) -> list[BucketNumber]:
        """The buckets whose sums are others than `theirs`."""
        return [
            BucketNumber(number)
            for number, (mine, their) in enumerate(zip(self._sums, theirs, strict=True))
            if mine != their
        ]

    def count(self, page: Iterable[tuple[SessionKey, Pin]]) -> None:
        """Add the records that follow `covered` in the order of keys; an empty page: no more."""
        key = None
        for key, pin in page:
            self._flip(key, pin)
        if key is None:
            self.is_whole = True
        else:
            self._covered = key

    def replace(self, key: SessionKey, old: Pin | None, new: Pin | None) -> None:
        """The record of `key` is now `new` instead of `old`; None stands for no record."""
        if not self.is_whole and (self._covered is None or key > self._covered):
            return  # `count` will come to it
        if old is not None:
            if new is not None and same_pin(old, new):
                return
            self._flip(key, old)
        if new is not None:
            self._flip(key, new)

    def _flip(self, key: SessionKey, pin: Pin) -> None:
        changed = record_hash(key, pin)
        bucket = key[0] << 4 | key[1] >> 4
        self._sums[bucket] ^= changed
        self._total ^= changed
        self.changed.add(bucket)


class DigestedStore:
    """A store whose writes are followed in `buckets`. Implements `PinStore`."""

    def __init__(self, store: PinStore, buckets: Buckets | None = None) -> None:
        """All writes of records go through here from now on; `buckets`: of what is in it."""
        self._store = store
        self.buckets = buckets if buckets is not None else Buckets()
        self.get = store.get
        """The record of `key`, whatever it is."""

    def put(self, key: SessionKey, pin: Pin) -> None:
        """Keep `pin` as the record of `key`."""
        self.buckets.replace(key, self._store.get(key), pin)
        self._store.put(key, pin)
