"""The hashes by which tables are compared. Spec: ../spec/repair.md."""

from collections.abc import Iterable
from typing import Any

from protocol.reference.primitives import blake2b

BUCKET_BITS = 12

Record = dict[str, Any]
"""A PinRecord as the vectors write it."""


def bucket(key: bytes) -> int:
    """The bucket of a key."""
    return int.from_bytes(key[:2], "big") >> 16 - BUCKET_BITS


def record_hash(record: Record) -> bytes:
    """The hash of a record, given as the vectors write it: 8 bytes, a big-endian number."""
    numbers = (
        record["epoch"].to_bytes(8, "big")
        + record["rank"].to_bytes(1, "big")
        + record["stamp_ms"].to_bytes(8, "big")
    )
    texts = (record[name].encode() for name in ("backend", "claimer", "pool", "by"))
    message = bytes.fromhex(record["key"]) + numbers + b"\0".join(texts)
    return blake2b(message, size=8, person=b"meshlb-bucket")


def table_sum(records: Iterable[Record]) -> int:
    """The XOR of the hashes of all records: equal where two tables are alike (D5)."""
    total = 0
    for record in records:
        total ^= int.from_bytes(record_hash(record), "big")
    return total


def differing(mine: list[Record], theirs: list[Record]) -> list[int]:
    """The buckets whose living records differ (C3, C4); `expires_in_ms` is the time left."""

    def living(records: list[Record], number: int) -> list[Record]:
        return [
            record
            for record in records
            if record["expires_in_ms"] and bucket(bytes.fromhex(record["key"])) == number
        ]

    numbers = {bucket(bytes.fromhex(record["key"])) for record in mine + theirs}
    return sorted(
        number
        for number in numbers
        if table_sum(living(mine, number)) != table_sum(living(theirs, number))
    )
