"""The keys that both sides of a handshake derive, and the proof of having them.

Owns the derivation. Must not know the messages of the handshake.

Spec: protocol/spec/handshake.md.
"""

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from meshlb.errors import WireError
from meshlb.model import KeyId
from meshlb.wire.seal import derive


@dataclass(frozen=True, slots=True)
class Keys:
    """What the key schedule yields from the secret of `key_id`, 32 bytes each."""

    key_id: KeyId
    initiator_proof: bytes
    responder_proof: bytes
    to_responder: bytes
    to_initiator: bytes


def derive_keys(
    key_id: KeyId, secret: bytes, private: X25519PrivateKey, public: bytes, transcript: bytes
) -> Keys:
    """The keys of a stream.

    Raises:
        WireError: the other side's public key is one of those that give everybody the same keys.
    """
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise WireError("a public key of low order") from error
    purpose = b"meshlb stream" + transcript
    okm = derive(shared, salt=secret, purpose=purpose, size_bytes=4 * 32)
    return Keys(key_id, okm[:32], okm[32:64], okm[64:96], okm[96:])


def proof_of(key: bytes) -> bytes:
    """That a side holds the secret which `key` comes from."""
    return hmac.digest(key, b"meshlb proof", "sha256")
