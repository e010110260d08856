"""The records of a table that travels in bulk. Spec: ../spec/replication.md, "Copies"."""

from typing import Any

from protocol.reference.messages import SCHEMA
from protocol.reference.unpack import Malformed

RECORD_BYTES: int = SCHEMA["limit"]["packed_pin_bytes"]
END_BYTES: int = SCHEMA["limit"]["packed_end_bytes"]
LIFETIME_MS_MAX = 400 * 86_400_000
TOMBSTONE = 65_535
SOURCES = ("cookie", "app-cookie", "source-ip", "header", "query", "path", "soap")


def records(run: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    """The records of a TableRun, given as the vectors write it.

    Args:
        run: the message.
        names: those of the runs before it; those of this one are added.

    Raises:
        Malformed: where any of it is not as the specification says.
    """
    names += run["names"]
    packed, ends = bytes.fromhex(run["records"]), bytes.fromhex(run["ends"])
    found = [
        _record(packed[at : at + RECORD_BYTES], names, run["now_ms"])
        for at in range(0, len(packed), RECORD_BYTES)
    ]
    last = -1
    for at in range(0, len(ends), END_BYTES):
        place = int.from_bytes(ends[at : at + 2], "little")
        if not last < place < len(found):
            raise Malformed("the end of no record")
        last = place
        end_ms = int.from_bytes(ends[at + 2 : at + END_BYTES], "little")
        found[place]["ends_in_ms"] = end_ms - run["now_ms"]
    keys = [record["key"] for record in found]
    if keys != sorted(set(keys)):
        raise Malformed("keys are not in ascending order")
    return found


def _record(packed: bytes, names: list[str], now_ms: int) -> dict[str, Any]:
    def number(first: int, size: int) -> int:
        return int.from_bytes(packed[first : first + size], "little")

    def name(first: int) -> str:
        if number(first, 2) >= len(names):
            raise Malformed("the number of no name")
        return names[number(first, 2)]

    flags = packed[38]
    source, rank = flags & 0x0F, flags >> 4 & 0x07
    if source >= len(SOURCES) or rank > 2:
        raise Malformed("flags that do not exist")
    if number(26, 6) >> 32 > (now_ms + LIFETIME_MS_MAX) >> 32:
        raise Malformed("a record lives too long")
    return {
        "key": packed[:16].hex(),
        "pool": name(24),
        "backend": "" if number(36, 2) == TOMBSTONE else name(36),
        "by": SOURCES[source],
        "epoch": number(32, 4),
        "rank": rank,
        "stamp_ms": number(18, 6),
        "claimer": name(16),
        "expires_in_ms": number(26, 6) - now_ms,
        "ends_in_ms": 0,
    }
