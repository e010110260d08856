"""The load-balancer cookie: a pin that the client keeps for us, sealed.

Owns the cookie's value and its attributes. Sealed with AES-256-GCM, so that a client can neither
read it nor make one up; bound to the pool and the cookie's name, so that it opens nowhere else.
What a node does with an opened cookie is for `meshlb.core.route`.

A value is base64url, without padding, of

    key id      1 byte   tells which secret sealed it
    nonce      12 bytes  random
    sealed     16 bytes  session key
                4        epoch            big-endian
                4        made at          seconds of wall-clock time
                4        refreshed at
               1 to 63   name of the backend, UTF-8
    tag        16 bytes

A secret should be rotated before it has sealed 2**32 cookies (random nonces, NIST SP 800-38D).
"""

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshlb.model import BackendName, PoolName, SessionKey

COOKIE_BYTES_MAX: Final = 256
"""A longer value is not looked at."""

OPENED_MAX: Final = 16_384
"""Opened values remembered; forgotten all at once, when there are more."""

_FIXED = struct.Struct(">16sLLL")
_NUMBER_MAX = 2**32 - 1
_AES_KEY_BYTES = 32
_KEY_PURPOSE = b"meshlb-cookie"


@dataclass(frozen=True, slots=True, kw_only=True)
class LbCookie:
    """What a load-balancer cookie says. Times are whole seconds once it was sealed."""

    key: SessionKey
    backend: BackendName
    epoch: int
    """Of the pin, when the cookie was sealed."""
    made_at: float
    """When the session began, in seconds of wall-clock time."""
    refreshed_at: float
    """When the cookie was sealed, likewise."""
    sealed_by_older_key: bool = False
    """Under a secret that is on its way out: seal it anew."""


@dataclass(frozen=True, slots=True)
class _SealingKey:
    key_id: int
    cipher: AESGCM
    is_older: bool


class CookieSealer:
    """Seals and opens the load-balancer cookies of one pool."""

    NONCE_BYTES: ClassVar[int] = 12

    __slots__ = ("_associated", "_keys", "_opened")

    def __init__(self, secrets: Sequence[bytes], *, pool: PoolName, name: str) -> None:
        """Make a sealer.

        Args:
            secrets: at least one, each of 16 to 64 bytes. The first seals, all open.
            pool: the pool whose backends are named.
            name: the name of the cookie.
        """
        self._associated = b"%b\0%b" % (pool.encode(), name.encode())
        self._opened: dict[bytes, LbCookie] = {}
        self.use(secrets)

    def use(self, secrets: Sequence[bytes]) -> None:
        """From now on the first of `secrets` seals, and all of them open; no others do."""
        if not secrets:
            raise ValueError("at least one secret is needed")
        self._keys = tuple(
            _derive(secret, is_older=position > 0) for position, secret in enumerate(secrets)
        )
        self._opened.clear()

    def seal(self, cookie: LbCookie, nonce: bytes) -> bytes:
        """The value that carries `cookie`.

        Args:
            cookie: what to seal; `sealed_by_older_key` is not a part of it.
            nonce: `NONCE_BYTES` random bytes, never used before.
        """
        assert len(nonce) == self.NONCE_BYTES
        key = self._keys[0]
        plain = _FIXED.pack(
            cookie.key,
            min(cookie.epoch, _NUMBER_MAX),
            min(max(int(cookie.made_at), 0), _NUMBER_MAX),
            min(max(int(cookie.refreshed_at), 0), _NUMBER_MAX),
        )
        sealed = key.cipher.encrypt(nonce, plain + cookie.backend.encode(), self._associated)
        return base64.urlsafe_b64encode(bytes((key.key_id,)) + nonce + sealed).rstrip(b"=")

    def open(self, value: bytes) -> LbCookie | None:
        """What `value` carries; None if it was not sealed by us for this pool and name.

        A value that was opened before costs one look-up.
        """
        cookie = self._opened.get(value)
        if cookie is None:
            cookie = self._open(value)
            if cookie is not None:
                if len(self._opened) >= OPENED_MAX:
                    self._opened.clear()
                self._opened[value] = cookie
        return cookie

    def _open(self, value: bytes) -> LbCookie | None:
        if len(value) > COOKIE_BYTES_MAX:
            return None
        try:
            raw = base64.b64decode(value + b"=" * (-len(value) % 4), b"-_", validate=True)
        except ValueError:
            return None
        nonce, sealed = raw[1 : 1 + self.NONCE_BYTES], raw[1 + self.NONCE_BYTES :]
        if len(nonce) < self.NONCE_BYTES:
            return None
        for key in self._keys:
            if key.key_id == raw[0]:
                try:
                    plain = key.cipher.decrypt(nonce, sealed, self._associated)
                except InvalidTag:
                    continue
                return _read(plain, sealed_by_older_key=key.is_older)
        return None


def set_cookie_line(name: str, value: bytes, *, secure: bool) -> bytes:
    """The Set-Cookie line, with its CRLF.

    Args:
        name: of the cookie.
        value: what `CookieSealer.seal` returned.
        secure: the client came by TLS.
    """
    attributes = b"; Secure" if secure else b""
    return b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b\r\n" % (
        name.encode(),
        value,
        attributes,
    )


def _derive(secret: bytes, *, is_older: bool) -> _SealingKey:
    """The key for cookies under one of the cluster's secrets, and the byte that names it."""
    derived = hashlib.blake2b(
        digest_size=_AES_KEY_BYTES + 1, key=secret, person=_KEY_PURPOSE
    ).digest()
    return _SealingKey(derived[-1], AESGCM(derived[:_AES_KEY_BYTES]), is_older)


def _read(plain: bytes, *, sealed_by_older_key: bool) -> LbCookie:
    """What we sealed ourselves; it is well-formed."""
    key, epoch, made_at, refreshed_at = _FIXED.unpack_from(plain)
    return LbCookie(
        key=SessionKey(key),
        backend=BackendName(plain[_FIXED.size :].decode()),
        epoch=epoch,
        made_at=made_at,
        refreshed_at=refreshed_at,
        sealed_by_older_key=sealed_by_older_key,
    )
