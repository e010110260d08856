"""The handshake that opens a stream: its messages, and the keys that follow from them.

Spec: ../spec/handshake.md.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from protocol.reference.messages import LIMITS, fields
from protocol.reference.primitives import hkdf, x25519
from protocol.reference.unpack import Malformed, unpack

HELLO, WELCOME, PROVE, ACCEPT, REFUSE = range(1, 6)
PROOF_BYTES = 32


@dataclass(frozen=True, slots=True)
class Keys:
    """What both sides derive, 32 bytes each."""

    initiator_proof: bytes
    responder_proof: bytes
    to_responder: bytes
    to_initiator: bytes


def split(stream: bytes) -> list[tuple[int, bytes]]:
    """The messages at the beginning of a stream, as kind and body.

    Raises:
        Malformed: where what is there begins no message, or is only a part of one.
    """
    messages: list[tuple[int, bytes]] = []
    while stream:
        kind, length = stream[0], int.from_bytes(stream[1:3], "big")
        if kind not in (HELLO, WELCOME, PROVE, ACCEPT, REFUSE):
            raise Malformed("no message begins like this")
        if length > LIMITS["handshake_frame_bytes_max"]:
            raise Malformed("a message that is too long")
        if len(stream) < 3 + length:
            raise Malformed("a part of a message")
        messages.append((kind, stream[3 : 3 + length]))
        stream = stream[3 + length :]
    return messages


def read_hello(body: bytes) -> dict[str, Any]:
    """The fields of HELLO."""
    values = _array(body, 6)
    version_min, version_max, key_ids, label, identity, public_key = values[:6]
    if not isinstance(key_ids, tuple) or len(key_ids) > LIMITS["values_per_field_max"]:
        raise Malformed("expected key ids")
    return {
        "version_min": _uint(version_min),
        "version_max": _uint(version_max),
        "key_ids": [_bytes(each, 4) for each in key_ids],
        "label": _bytes(label, 8),
        "identity": _identity(identity),
        "public_key": _bytes(public_key, 32),
        "features": _uint(values[6]) if len(values) > 6 else 0,
    }


def read_welcome(body: bytes) -> dict[str, Any]:
    """The fields of WELCOME, and the proof behind them."""
    encoded, proof = body[:-PROOF_BYTES], body[-PROOF_BYTES:]
    values = _array(encoded, 5)
    version, key_id, label, identity, public_key = values[:5]
    return {
        "version": _uint(version),
        "key_id": _bytes(key_id, 4),
        "label": _bytes(label, 8),
        "identity": _identity(identity),
        "public_key": _bytes(public_key, 32),
        "features": _uint(values[5]) if len(values) > 5 else 0,
        "encoded": encoded,
        "proof": proof,
    }


def read_refuse(body: bytes) -> str:
    """The reason in REFUSE; a later version may give one that this one does not know."""
    return str(fields([["reason", "name"]], _array(body, 1))["reason"])


def derive_keys(
    *, secret: bytes, private: bytes, public: bytes, hello: bytes, welcome: bytes
) -> Keys:
    """The keys of a stream.

    Args:
        secret: the one that WELCOME names.
        private: the X25519 key of the side that asks.
        public: that of the other side.
        hello: the whole message, with its kind and length.
        welcome: the array in WELCOME, without the proof.
    """
    transcript = hashlib.sha256(hello + welcome).digest()
    shared = x25519(private, public)
    okm = hkdf(shared, salt=secret, info=b"meshlb stream" + transcript, size=128)
    return Keys(okm[:32], okm[32:64], okm[64:96], okm[96:])


def proof(key: bytes) -> bytes:
    """That a side holds the secret."""
    return hmac.digest(key, b"meshlb proof", "sha256")


def respond(stream: bytes, *, private: bytes) -> None:
    """Read what a responder gets before it has answered, as far as that decides.

    Raises:
        Malformed: where it must end the connection without an answer.
    """
    (kind, body), *rest = split(stream)
    if kind == REFUSE:
        read_refuse(body)
        return
    if kind != HELLO:
        raise Malformed("out of turn")
    x25519(private, read_hello(body)["public_key"])
    if rest and rest[0][0] not in (PROVE, REFUSE):
        raise Malformed("out of turn")


def _array(encoded: bytes, size: int) -> tuple[Any, ...]:
    values = unpack(encoded, LIMITS)
    if not isinstance(values, tuple) or len(values) < size:
        raise Malformed(f"expected {size} fields")
    return values


def _identity(value: Any) -> dict[str, Any]:
    if not isinstance(value, tuple):
        raise Malformed("expected who it is")
    schema = [["name", "node-name"], ["boot_id", "uint"], ["address", "address"]]
    return fields(schema, value)


def _uint(value: Any) -> int:
    number: int = fields([["number", "uint"]], (value,))["number"]
    return number


def _bytes(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise Malformed(f"expected {size} bytes")
    return value
