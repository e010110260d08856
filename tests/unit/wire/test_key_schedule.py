import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshlb.errors import WireError
from meshlb.model import KeyId
from meshlb.wire.key_schedule import Keys, derive_keys, proof_of

ONE, OTHER = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
KEY_ID = KeyId(b"key1")


def keys(*, secret: bytes = b"s" * 32, transcript: bytes = b"t", is_one: bool = True) -> Keys:
    mine, theirs = (ONE, OTHER) if is_one else (OTHER, ONE)
    public = theirs.public_key().public_bytes_raw()
    return derive_keys(KEY_ID, secret, mine, public, transcript)


def test_both_sides_have_the_same_keys_and_no_two_of_them_are_alike() -> None:
    one = keys()
    assert one == keys(is_one=False)
    made = {one.initiator_proof, one.responder_proof, one.to_responder, one.to_initiator}
    assert len(made) == 4
    assert {len(key) for key in made} == {32}


def test_another_secret_or_transcript_gives_other_keys() -> None:
    assert keys().to_responder != keys(secret=b"x" * 32).to_responder
    assert keys().to_responder != keys(transcript=b"u").to_responder


def test_a_public_key_that_gives_everybody_the_same_keys_is_refused() -> None:
    with pytest.raises(WireError, match="low order"):
        derive_keys(KEY_ID, b"s" * 32, ONE, bytes(32), b"t")


def test_a_proof_tells_its_key_to_nobody() -> None:
    key = keys().initiator_proof
    assert proof_of(key) == proof_of(key) != key
