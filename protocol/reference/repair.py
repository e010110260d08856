"""The hashes by which tables are compared. Spec: ../spec/repair.md."""

from typing import Any

from protocol.reference.primitives import blake2b

BUCKET_BITS = 12


def bucket(key: bytes) -> int:
    """The bucket of a key."""
    return int.from_bytes(key[:2], "big") >> 16 - BUCKET_BITS


def record_hash(record: dict[str, Any]) -> bytes:
    """The hash of a record, given as the vectors write it: 8 bytes, a big-endian number."""
    numbers = (
        record["epoch"].to_bytes(8, "big")
        + record["rank"].to_bytes(1, "big")
        + record["stamp_ms"].to_bytes(8, "big")
    )
    texts = (record[name].encode() for name in ("backend", "claimer", "pool", "by"))
    message = bytes.fromhex(record["key"]) + numbers + b"\0".join(texts)
    return blake2b(message, size=8, person=b"meshlb-bucket")
