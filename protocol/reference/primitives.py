"""AES-256-GCM, HKDF and X25519 in plain Python: slow, leaky in time, and only for reading vectors.

Never use this to protect anything.

Sources: FIPS 197, NIST SP 800-38D, RFC 5869, RFC 7748.
"""

import hashlib
import hmac

from protocol.reference.unpack import Malformed

TAG_BYTES = 16


def hkdf(secret: bytes, *, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256; an empty salt is 32 zero bytes."""
    key = hmac.digest(salt or bytes(32), secret, "sha256")
    okm, block = b"", b""
    while len(okm) < size:
        block = hmac.digest(key, block + info + bytes([len(okm) // 32 + 1]), "sha256")
        okm += block
    return okm[:size]


def blake2b(message: bytes, *, size: int, person: bytes = b"", key: bytes = b"") -> bytes:
    """Keyed BLAKE2b with a personalisation."""
    return hashlib.blake2b(message, digest_size=size, person=person, key=key).digest()


# AES ---------------------------------------------------------------------------------------


def _double(byte: int) -> int:
    return (byte << 1 ^ (0x11B if byte & 0x80 else 0)) & 0xFF


def _make_sbox() -> bytes:
    box = bytearray(256)
    box[0] = 0x63
    power, inverse = 1, 1
    while True:
        power ^= _double(power)  # times 3
        for shift in (1, 2, 4):  # divided by 3
            inverse ^= inverse << shift & 0xFF
        if inverse & 0x80:
            inverse ^= 0x09
        turned = inverse
        for shift in range(1, 5):
            turned ^= (inverse << shift | inverse >> 8 - shift) & 0xFF
        box[power] = turned ^ 0x63
        if power == 1:
            return bytes(box)


_SBOX = _make_sbox()


class Aes256:
    """The block cipher, in the one direction that GCM needs."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == 32
        words = [key[at : at + 4] for at in range(0, 32, 4)]
        constant = 1
        while len(words) < 60:
            word = words[-1]
            if len(words) % 8 == 0:
                word = (word[1:] + word[:1]).translate(_SBOX)
                word = bytes([word[0] ^ constant]) + word[1:]
                constant = _double(constant)
            elif len(words) % 8 == 4:
                word = word.translate(_SBOX)
            words.append(_xor(words[-8], word))
        self._round_keys = [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]

    def encrypt(self, block: bytes) -> bytes:
        """One block of 16 bytes."""
        state = _xor(block, self._round_keys[0])
        for round_key in self._round_keys[1:-1]:
            state = _xor(_mix(_shift(state.translate(_SBOX))), round_key)
        return _xor(_shift(state.translate(_SBOX)), self._round_keys[-1])


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _shift(state: bytes) -> bytes:
    return bytes(state[(5 * at) % 16] for at in range(16))


def _mix(state: bytes) -> bytes:
    mixed = bytearray()
    for at in range(0, 16, 4):
        column = state[at : at + 4]
        whole = column[0] ^ column[1] ^ column[2] ^ column[3]
        mixed += bytes(
            column[row] ^ whole ^ _double(column[row] ^ column[(row + 1) % 4]) for row in range(4)
        )
    return bytes(mixed)


# GCM ---------------------------------------------------------------------------------------


def _multiply(x: int, y: int) -> int:
    """In GF(2^128), the bits in GCM's order."""
    product = 0
    for bit in range(127, -1, -1):
        if y >> bit & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def _ghash(key: int, message: bytes) -> int:
    digest = 0
    for at in range(0, len(message), 16):
        digest = _multiply(digest ^ int.from_bytes(message[at : at + 16], "big"), key)
    return digest


def _padded(text: bytes) -> bytes:
    return text + bytes(-len(text) % 16)


def open_gcm(key: bytes, *, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The plaintext of AES-256-GCM with a nonce of 12 bytes and a tag of 16.

    Raises:
        Malformed: where the tag is not that of this key, nonce, text and associated data.
    """
    if len(sealed) < TAG_BYTES:
        raise Malformed("no room for a tag")
    text, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    cipher = Aes256(key)
    lengths = (8 * len(associated)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    digest = _ghash(
        int.from_bytes(cipher.encrypt(bytes(16)), "big"),
        _padded(associated) + _padded(text) + lengths,
    )
    mask = cipher.encrypt(nonce + (1).to_bytes(4, "big"))
    if not hmac.compare_digest(_xor(digest.to_bytes(16, "big"), mask), tag):
        raise Malformed("the tag is not authentic")
    blocks = range(2, 2 + (len(text) + 15) // 16)
    stream = b"".join(cipher.encrypt(nonce + count.to_bytes(4, "big")) for count in blocks)
    return _xor(text, stream[: len(text)])


# X25519 ------------------------------------------------------------------------------------

_PRIME = 2**255 - 19
BASE_POINT = (9).to_bytes(32, "little")


def x25519(scalar: bytes, point: bytes) -> bytes:
    """RFC 7748, section 5.

    Raises:
        Malformed: where the result is zero, because the point is of low order.
    """
    k = int.from_bytes(scalar, "little") & ~(7 | 128 << 248) | 64 << 248
    u = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for at in range(254, -1, -1):
        bit = k >> at & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % _PRIME, u * (da - cb) ** 2 % _PRIME
        x2, z2 = aa * bb % _PRIME, e * (aa + 121665 * e) % _PRIME
    if swap:
        x2, z2 = x3, z3
    shared = x2 * pow(z2, _PRIME - 2, _PRIME) % _PRIME
    if shared == 0:
        raise Malformed("a point of low order")
    return shared.to_bytes(32, "little")
