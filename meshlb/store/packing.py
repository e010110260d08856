"""A pin as 23 bytes, or 29 where it has an absolute end.

Owns the format of a value in the store. Must not know where values are kept.

    8 bytes  stamp in ms << 16 | number of the claimer's name
    8 bytes  expiry in ms of table time << 16 | number of the pool's name
    4 bytes  epoch
    2 bytes  number of the backend's name; 65,535 for a tombstone
    1 byte   key source | rank << 4 | RETIRED
    6 bytes  end in ms of table time, only where there is one

All little-endian. A *retired* pin has expired and is no longer counted, but lingers.
"""

import struct

from meshlb.core.sticky.pin import MS_PER_S, NEVER, NO_BACKEND, Pin
from meshlb.model import BackendName, KeySource, NodeName, PoolName
from meshlb.store.names import NAMES_MAX, Names
from meshlb.wire.messages import Rank

FORMAT = 2
"""Raised with every change that an older program could not read.

2: sums of the buckets are kept with the pins, and a table may have the name of its second copy.
"""

RETIRED = 0x80

_VALUE = struct.Struct("<QQIHB")
VALUE_BYTES = _VALUE.size
END_BYTES = 6
_NO_BACKEND = NAMES_MAX
_FLAGS_AT = _VALUE.size - 1
_SOURCE_MASK = 0x0F
_RANK_SHIFT = 4
_RANK_MASK = 0x03
_RANK_BITS = _RANK_MASK << _RANK_SHIFT
_LENGTHS = (VALUE_BYTES, VALUE_BYTES + END_BYTES)
_TOMBSTONE = _NO_BACKEND.to_bytes(2, "little")

# The position is the number on disk: append only.
_SOURCES = (
    KeySource.COOKIE,
    KeySource.APP_COOKIE,
    KeySource.SOURCE_IP,
    KeySource.HEADER,
    KeySource.QUERY,
    KeySource.PATH,
    KeySource.SOAP,
)
_SOURCE_NUMBERS = {source: number for number, source in enumerate(_SOURCES)}
_RANKS = tuple(Rank)

FLAGS = frozenset(
    source | rank << _RANK_SHIFT | retired
    for source in range(len(_SOURCES))
    for rank in range(len(_RANKS))
    for retired in (0, RETIRED)
)
"""The last byte of every value that can be."""


def pack(pin: Pin, names: Names) -> bytes:
    """The value of a pin; its names get numbers.

    Raises:
        StoreError: when all numbers of names are taken.
    """
    value = _VALUE.pack(
        pin.stamp_ms << 16 | names.numbers[pin.claimer],
        round(pin.expires_at * MS_PER_S) << 16 | names.numbers[pin.pool],
        pin.epoch,
        names.numbers[pin.backend] if pin.backend else _NO_BACKEND,
        _SOURCE_NUMBERS[pin.by] | pin.rank << _RANK_SHIFT,
    )
    if pin.ends_at == NEVER:
        return value
    return value + round(pin.ends_at * MS_PER_S).to_bytes(END_BYTES, "little")


def unpack(value: bytes, names: Names) -> Pin:
    """The pin of a value.

    Raises:
        struct.error, IndexError: when the value is damaged.
    """
    stamp_claimer, expiry_pool, epoch, backend, flags = _VALUE.unpack_from(value)
    ends_at = NEVER
    if len(value) > _VALUE.size:
        ends_at = int.from_bytes(value[_VALUE.size :], "little") / MS_PER_S
    return Pin(
        PoolName(names[expiry_pool & 0xFFFF]),
        NO_BACKEND if backend == _NO_BACKEND else BackendName(names[backend]),
        _SOURCES[flags & _SOURCE_MASK],
        epoch,
        _RANKS[flags >> _RANK_SHIFT & _RANK_MASK],
        stamp_claimer >> 16,
        NodeName(names[stamp_claimer & 0xFFFF]),
        (expiry_pool >> 16) / MS_PER_S,
        ends_at,
    )


def is_whole(value: bytes) -> bool:
    """False for a value of a length that `pack` never gives; `unpack` reads all others."""
    return len(value) in _LENGTHS


def is_well(value: bytes, at_ms: int) -> bool:
    """True for what nothing has to be done about: an agreed pin that lives at that time."""
    return (
        len(value) in _LENGTHS
        and int.from_bytes(value[10:16], "little") > at_ms
        and value[20:22] != _TOMBSTONE
        and value[_FLAGS_AT] & _RANK_BITS != 0
    )


def is_retired(value: bytes) -> bool:
    """True for a pin that has expired and is no longer counted."""
    return value[_FLAGS_AT] >= RETIRED


def is_tombstone(value: bytes) -> bool:
    """True for a tombstone."""
    return value[20:22] == _TOMBSTONE


def is_provisional(value: bytes) -> bool:
    """True where the cluster has not agreed on the pin."""
    return value[_FLAGS_AT] >> _RANK_SHIFT & _RANK_MASK == Rank.PROVISIONAL


def expiry_ms(value: bytes) -> int:
    """The expiry, in milliseconds of table time."""
    return int.from_bytes(value[10:16], "little")


def retired(value: bytes) -> bytes:
    """The value, marked as retired."""
    return value[:_FLAGS_AT] + bytes((value[_FLAGS_AT] | RETIRED,)) + value[_VALUE.size :]


def adds_nothing(value: bytes, to: bytes | None) -> bool:
    """True where one value of a key is another one, or the same pin that ends no later."""
    return value == to or (
        to is not None
        and value[:10] == to[:10]
        and value[16:_FLAGS_AT] == to[16:_FLAGS_AT]
        and (value[_FLAGS_AT] ^ to[_FLAGS_AT]) & ~RETIRED == 0
        and value[VALUE_BYTES:] == to[VALUE_BYTES:]
        and expiry_ms(value) <= expiry_ms(to)
    )
