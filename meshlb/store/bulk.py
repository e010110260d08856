"""Runs of packed records: cut from one table, and made ready to land in another.

Owns what is done to thousands of records at once: a run is handled by column, the same two bytes
of every record, and not record by record. A record is a key and a value of `packing`, without
its absolute end; the few that have one come beside the run. Must not know peers, nor where
records are kept.

What a peer sends is checked here before any of it is stored: sizes, flags, numbers of names,
lifetimes. The order of the keys is not; the store that they are appended to refuses any other.

Spec: protocol/spec/replication.md, "Copies".
"""

import struct
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Final

from meshlb.core.sticky.digest import bucket_of, bucket_range
from meshlb.core.sticky.pin import LIFETIME_S_MAX, MS_PER_S
from meshlb.errors import WireError
from meshlb.model import SESSION_KEY_BYTES, NodeName, SessionKey
from meshlb.store.names import NAMES_MAX
from meshlb.store.packing import END_BYTES, FLAGS, RETIRED, VALUE_BYTES, is_whole
from meshlb.wire.limits import BUCKETS, PACKED_PIN_BYTES
from meshlb.wire.runs import PackedEnds, PackedPins, TableRun

assert SESSION_KEY_BYTES + VALUE_BYTES == PACKED_PIN_BYTES

SHIFT_MS_MIN: Final = 50
"""Clocks that differ by less tell the same lifetime: the difference has a delivery in it."""

LIFETIME_MS_MAX: Final = round(LIFETIME_S_MAX * MS_PER_S)

NO_BACKEND: Final = NAMES_MAX
"""In the place of the number of a backend: a tombstone."""

_CLAIMER_AT: Final = SESSION_KEY_BYTES
_POOL_AT: Final = SESSION_KEY_BYTES + 8
_EXPIRY_AT: Final = _POOL_AT + 2
_EXPIRY_HIGH_AT: Final = _EXPIRY_AT + 4
_EXPIRY_HIGH_BITS: Final = 32
_BACKEND_AT: Final = SESSION_KEY_BYTES + 20
_FLAGS_AT: Final = SESSION_KEY_BYTES + 22

_RECORD = struct.Struct(f"{SESSION_KEY_BYTES}s{VALUE_BYTES}s")
_END = struct.Struct(f"<H{END_BYTES}s")

Stored = tuple[bytes, bytes]
"""A key and a value, as a store keeps them."""


@dataclass(frozen=True, slots=True)
class Run:
    """A part of a table, from one key to another."""

    records: PackedPins
    ends: PackedEnds
    upto: SessionKey | None
    """The last key; None where the table ends here."""
    buckets_upto: int | None
    """All buckets below this one end here or before; None where the last one goes on."""


def cut(stored: list[Stored], *, is_end: bool) -> Run:
    """A run of these records; but for the last ones, if they leave a bucket unfinished.

    Args:
        stored: in ascending order of keys.
        is_end: the table ends with them.
    """
    buckets_upto: int | None = BUCKETS
    if not is_end:
        buckets_upto = bucket_of(SessionKey(stored[-1][0]))
        first_of_bucket, _ = bucket_range(buckets_upto)
        whole = bisect_left(stored, first_of_bucket, key=itemgetter(0))
        if whole:
            del stored[whole:]
        else:
            buckets_upto = None
    upto = None if is_end else SessionKey(stored[-1][0])
    records, ends = b"".join(chain.from_iterable(stored)), b""
    if len(records) != PACKED_PIN_BYTES * len(stored):
        records, ends = _apart(stored)
    return Run(PackedPins(records), PackedEnds(ends), upto, buckets_upto)


def _apart(stored: list[Stored]) -> tuple[bytes, bytes]:
    """Records without their ends, and the ends; what is damaged is passed over."""
    records: list[bytes] = []
    ends: list[bytes] = []
    for key, value in stored:
        if is_whole(value):
            if len(value) > VALUE_BYTES:
                ends.append(_END.pack(len(records), value[VALUE_BYTES:]))
            records.append(key + value[:VALUE_BYTES])
    return b"".join(records), b"".join(ends)


@dataclass(frozen=True, slots=True)
class Landed:
    """A run, checked and told by this node's names and clock."""

    stored: list[Stored]
    counts: Mapping[tuple[int, int], int]
    """Pins that are no tombstones and not retired, by the numbers of pool and backend."""


def land(
    run: TableRun, numbers: Sequence[int], *, claimers: Sequence[NodeName | None], shift_ms: int
) -> Landed:
    """Check a run, and tell it by the names and the clock of this node.

    Args:
        run: from a peer.
        numbers: this node's number for each of the sender's.
        claimers: the same names, None for one that no node can have.
        shift_ms: how far this node's clock is ahead of the sender's.

    Raises:
        WireError: some of it is not as the specification says.
    """
    records = bytes(run.records)
    if not FLAGS.issuperset(_values(records[_FLAGS_AT::PACKED_PIN_BYTES])):
        raise WireError("a packed record has flags that do not exist")
    used = _numbers(records, _CLAIMER_AT)
    if not all(number < len(claimers) and claimers[number] for number in used):
        raise WireError("a packed record was claimed by nobody")
    records = _renumbered(records, _CLAIMER_AT, numbers)
    records = _renumbered(records, _POOL_AT, numbers)
    records = _renumbered(records, _BACKEND_AT, numbers, keeps=NO_BACKEND)
    records = _shifted(records, run.now_ms, shift_ms)
    stored: list[Stored] = list(_RECORD.iter_unpack(records))
    _put_ends(stored, run.ends, shift_ms)
    return Landed(stored, _counted(records))


def _column(records: bytes, at: int) -> "array[int]":
    """The 16-bit numbers at an offset of each record."""
    pairs = bytearray(2 * (len(records) // PACKED_PIN_BYTES))
    pairs[0::2] = records[at::PACKED_PIN_BYTES]
    pairs[1::2] = records[at + 1 :: PACKED_PIN_BYTES]
    column = array("H", bytes(pairs))
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _values(column: bytes) -> Iterator[int]:
    """The different bytes of a column. As a rule there are few, and each costs one call of C."""
    while column:
        yield column[0]
        column = column.translate(None, column[:1])


def _numbers(records: bytes, at: int) -> set[int]:
    """The different 16-bit numbers at an offset of each record."""
    high = records[at + 1 :: PACKED_PIN_BYTES]
    if high.count(high[:1]) < len(high):
        return set(_column(records, at))
    return {high[0] << 8 | low for low in _values(records[at::PACKED_PIN_BYTES])}


def _renumbered(
    records: bytes, at: int, numbers: Sequence[int], *, keeps: int | None = None
) -> bytes:
    """The records with this node's numbers in the place of the sender's."""
    used = _numbers(records, at) - {keeps}
    if used and max(used) >= len(numbers):
        raise WireError("a packed record has the number of no name")
    if all(numbers[number] == number for number in used):
        return records
    ours = {number: numbers[number] for number in used}
    if keeps is not None:
        ours[keeps] = keeps
    column = array("H", map(ours.__getitem__, _column(records, at)))
    if sys.byteorder == "big":
        column.byteswap()
    pairs, changed = column.tobytes(), bytearray(records)
    changed[at::PACKED_PIN_BYTES] = pairs[0::2]
    changed[at + 1 :: PACKED_PIN_BYTES] = pairs[1::2]
    return bytes(changed)


def _shifted(records: bytes, their_now_ms: int, shift_ms: int) -> bytes:
    """The records with their expiry on this node's clock."""
    high = _numbers(records, _EXPIRY_HIGH_AT)
    if not high:
        return records
    if max(high) > (their_now_ms + LIFETIME_MS_MAX) >> _EXPIRY_HIGH_BITS:
        raise WireError("a packed record lives too long")
    if abs(shift_ms) < SHIFT_MS_MIN:
        return records
    least_ms, most_ms = min(high) << _EXPIRY_HIGH_BITS, (max(high) + 1) << _EXPIRY_HIGH_BITS
    if not (least_ms + shift_ms >= 0 and most_ms + shift_ms < 1 << 8 * END_BYTES):
        raise WireError("the clocks of two members are decades apart")
    # One sum of very large numbers adds to every record: none of them can overflow into the next.
    total = int.from_bytes(records, "little") + shift_ms * _ones(len(records))
    return total.to_bytes(len(records), "little")


@lru_cache(maxsize=16)
def _ones(size_bytes: int) -> int:
    """A one in the place of each expiry of so many bytes of records."""
    one = bytearray(PACKED_PIN_BYTES)
    one[_EXPIRY_AT] = 1
    return int.from_bytes(bytes(one) * (size_bytes // PACKED_PIN_BYTES), "little")


def _put_ends(stored: list[Stored], ends: bytes, shift_ms: int) -> None:
    before = -1
    for place, end in _END.iter_unpack(ends):
        if not before < place < len(stored):
            raise WireError("the end of no packed record")
        before = place
        end_ms = int.from_bytes(end, "little") + shift_ms
        if not 0 <= end_ms < 1 << 8 * END_BYTES:
            raise WireError("the end of a packed record is out of range")
        key, value = stored[place]
        stored[place] = (key, value + end_ms.to_bytes(END_BYTES, "little"))


def _counted(records: bytes) -> dict[tuple[int, int], int]:
    flags = records[_FLAGS_AT::PACKED_PIN_BYTES]
    used = _numbers(records, _POOL_AT)
    if len(used) == 1 and max(_values(flags)) < RETIRED:  # as a rule, and much faster
        (pool,) = used
        return {(pool, backend): n for backend, n in _counted_backends(records).items()}
    counts: Counter[tuple[int, int]] = Counter()
    pools, backends = _column(records, _POOL_AT), _column(records, _BACKEND_AT)
    for (pool, backend, flag), count in Counter(zip(pools, backends, flags, strict=True)).items():
        if backend != NO_BACKEND and flag < RETIRED:
            counts[pool, backend] += count
    return counts


def _counted_backends(records: bytes) -> dict[int, int]:
    high = records[_BACKEND_AT + 1 :: PACKED_PIN_BYTES]
    if high.count(0) == len(high):
        low = records[_BACKEND_AT::PACKED_PIN_BYTES]
        return {backend: low.count(backend) for backend in _values(low)}
    counts = Counter(_column(records, _BACKEND_AT))
    del counts[NO_BACKEND]
    return counts
