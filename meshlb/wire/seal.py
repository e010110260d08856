"""Sealing: authenticated encryption of datagrams and stream frames.

Owns the keyring, the clear header of a datagram, the replay window, and the frames of a stream
once its handshake is done. Must not know what is inside, nor where bytes come from.

No pair of key and nonce repeats: a datagram key belongs to one (secret, sender, boot id), where
the boot id is drawn anew at each start, and its nonce is a counter; a stream key belongs to one
handshake and direction, and its nonce is a counter too.

Spec: protocol/spec/sealing.md.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshlb.errors import SealError
from meshlb.model import CLUSTER_SECRET_BYTES, KEY_ID_BYTES, BootId, KeyId, NodeName
from meshlb.wire.limits import (
    DATAGRAM_BYTES_MAX,
    FRAME_PLAIN_BYTES_MAX,
    FRAME_SEALED_BYTES_MAX,
    KEYRING_SECRETS_MAX,
    NAME_BYTES_MAX,
    REPLAY_SENDERS_MAX,
    REPLAY_WINDOW_BITS,
    SEAL_TAG_BYTES,
)

ClusterLabel = NewType("ClusterLabel", bytes)
"""8 bytes that stand for the cluster's name."""

CLUSTER_LABEL_BYTES = 8

DATAGRAM_VERSION = 1
_HEADER = struct.Struct(f"!B{KEY_ID_BYTES}s{CLUSTER_LABEL_BYTES}sQQB")
_FRAME_LENGTH = struct.Struct("!I")
_NONCE = struct.Struct("!IQ")
_COUNTER_MAX = 2**64 - 1


def cluster_label(cluster_name: str) -> ClusterLabel:
    """The label of the cluster called `cluster_name`."""
    digest = hashlib.blake2b(
        cluster_name.encode(), digest_size=CLUSTER_LABEL_BYTES, person=b"meshlb label"
    )
    return ClusterLabel(digest.digest())


def derive(secret: bytes, *, salt: bytes, purpose: bytes, size_bytes: int) -> bytes:
    """HKDF-SHA256; `purpose` keeps keys of different uses apart."""
    return HKDF(algorithm=SHA256(), length=size_bytes, salt=salt, info=purpose).derive(secret)


def key_id_of(secret: bytes) -> KeyId:
    """The id that names `secret` without telling it."""
    return KeyId(derive(secret, salt=b"", purpose=b"meshlb key id", size_bytes=KEY_ID_BYTES))


@dataclass(frozen=True, slots=True)
class Keyring:
    """The cluster's secrets: the first seals, all open."""

    secrets: tuple[bytes, ...] = field(repr=False)
    key_ids: tuple[KeyId, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.secrets) <= KEYRING_SECRETS_MAX:
            raise ValueError(f"a keyring holds 1 to {KEYRING_SECRETS_MAX} secrets")
        if any(len(secret) != CLUSTER_SECRET_BYTES for secret in self.secrets):
            raise ValueError(f"a secret has {CLUSTER_SECRET_BYTES} bytes")
        object.__setattr__(self, "key_ids", tuple(map(key_id_of, self.secrets)))

    def secret(self, key_id: bytes) -> bytes | None:
        """The secret that `key_id` names, or None where this keyring has none of that id."""
        for known, secret in zip(self.key_ids, self.secrets, strict=True):
            if known == key_id:
                return secret
        return None

    def common(self, key_ids: Sequence[KeyId]) -> KeyId | None:
        """The first of our own ids that is among `key_ids`."""
        return next((key_id for key_id in self.key_ids if key_id in key_ids), None)


def _datagram_cipher(secret: bytes, key_id: bytes, sender: str, boot_id: int) -> AESGCM:
    purpose = b"meshlb datagram" + key_id + struct.pack("!Q", boot_id) + sender.encode()
    return AESGCM(derive(secret, salt=b"", purpose=purpose, size_bytes=32))


class DatagramSealer:
    """Seals the datagrams of this node; one per start of the process."""

    def __init__(
        self, keyring: Keyring, *, label: ClusterLabel, sender: NodeName, boot_id: BootId
    ) -> None:
        self._label = label
        self._sender = sender
        self._boot_id = boot_id
        self._counter = 0
        self.use(keyring)

    def use(self, keyring: Keyring) -> None:
        """Seals with the first secret of `keyring` from now on; the counter goes on."""
        self._key_id = keyring.key_ids[0]
        self._cipher = _datagram_cipher(
            keyring.secrets[0], self._key_id, self._sender, self._boot_id
        )

    def seal(self, plain: bytes) -> bytes:
        """The datagram that carries `plain`, at most `DATAGRAM_PLAIN_BYTES_MAX` bytes."""
        self._counter += 1
        name = self._sender.encode()
        header = (
            _HEADER.pack(
                DATAGRAM_VERSION,
                self._key_id,
                self._label,
                self._boot_id,
                self._counter,
                len(name),
            )
            + name
        )
        datagram = header + self._cipher.encrypt(_NONCE.pack(0, self._counter), plain, header)
        assert len(datagram) <= DATAGRAM_BYTES_MAX
        return datagram


@dataclass(frozen=True, slots=True)
class Opened:
    """What an authentic datagram said, and who sealed it."""

    sender: NodeName
    boot_id: BootId
    counter: int
    is_proven: bool
    """It was sealed after the sender answered a challenge, so it is no recording."""
    plain: bytes


class ReplayWindow:
    """The counters of one sender that were seen: the newest, and a bit for each before it."""

    __slots__ = ("_newest", "_seen")

    def __init__(self, floor: int = 0) -> None:
        """`floor` and every counter below it count as seen."""
        self._newest = floor
        self._seen = (1 << REPLAY_WINDOW_BITS) - 1

    def is_fresh(self, counter: int) -> bool:
        """True where `counter` was not seen and is not too old to tell."""
        age = self._newest - counter
        if age < 0:
            return True
        return age < REPLAY_WINDOW_BITS and not self._seen >> age & 1

    def mark(self, counter: int) -> None:
        """Notes a counter that is fresh, once its datagram has been opened."""
        ahead = counter - self._newest
        if ahead <= 0:
            self._seen |= 1 << -ahead
        elif ahead < REPLAY_WINDOW_BITS:
            self._seen = (self._seen << ahead | 1) & (1 << REPLAY_WINDOW_BITS) - 1
            self._newest = counter
        else:
            self._seen = 1
            self._newest = counter


class DatagramError(SealError):
    """A datagram that is not opened; `reason` is a short constant for the counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"datagram refused: {reason}")
        self.reason = reason


REFUSAL_REASONS = ("malformed", "version", "cluster", "key", "unknown", "replay", "seal")
"""Every `DatagramError.reason`, in the order of the checks."""


class DatagramOpener:
    """Opens the datagrams of peers that were introduced, each at most once.

    A datagram of a (sender, boot id) that nobody introduced is refused before any key is
    derived: otherwise those of an earlier start of the sender could be played to a node that
    has just started and has seen none of them. Who may introduce is the caller's business.

    The datagrams of the present start may be recordings just as well, for a node that has started
    later: what it opens is marked as such until the sender has `proven` where its counter stands.
    """

    def __init__(self, keyring: Keyring, *, label: ClusterLabel) -> None:
        self._label = label
        self._keyring = keyring
        self._peers: dict[tuple[str, int], ReplayWindow | None] = {}
        self._ciphers = lru_cache(maxsize=2 * REPLAY_SENDERS_MAX)(_datagram_cipher)

    def use(self, keyring: Keyring) -> None:
        """Opens with the secrets of `keyring` from now on; the windows stay."""
        self._keyring = keyring
        self._ciphers.cache_clear()

    def introduce(self, sender: NodeName, boot_id: BootId) -> None:
        """Opens datagrams of this start of `sender`; the oldest introduction makes room."""
        if (sender, boot_id) in self._peers:
            return
        if len(self._peers) >= REPLAY_SENDERS_MAX:
            del self._peers[next(iter(self._peers))]
        self._peers[sender, boot_id] = None

    def is_proven(self, sender: NodeName, boot_id: BootId) -> bool:
        """True where this start of `sender` has answered a challenge."""
        return self._peers.get((sender, boot_id)) is not None

    def prove(self, sender: NodeName, boot_id: BootId, *, counter: int) -> None:
        """This start of `sender` has just sealed a datagram with `counter`; later ones count."""
        if (sender, boot_id) in self._peers and self._peers[sender, boot_id] is None:
            self._peers[sender, boot_id] = ReplayWindow(counter)

    def knows(self, sender: NodeName, boot_id: BootId) -> bool:
        """True where this start of `sender` was introduced."""
        return (sender, boot_id) in self._peers

    def open(self, datagram: bytes) -> Opened:
        """Opens `datagram`.

        Raises:
            DatagramError: for the first reason found; nothing changed.
        """
        if not _HEADER.size + SEAL_TAG_BYTES < len(datagram) <= DATAGRAM_BYTES_MAX:
            raise DatagramError("malformed")
        version, key_id, label, boot_id, counter, name_bytes = _HEADER.unpack_from(datagram)
        if version != DATAGRAM_VERSION:
            raise DatagramError("version")
        if label != self._label:
            raise DatagramError("cluster")
        if (secret := self._keyring.secret(key_id)) is None:
            raise DatagramError("key")
        header_bytes = _HEADER.size + name_bytes
        if not 1 <= name_bytes <= NAME_BYTES_MAX or len(datagram) < header_bytes + SEAL_TAG_BYTES:
            raise DatagramError("malformed")
        header = datagram[:header_bytes]
        sender = header[_HEADER.size :].decode("latin-1")
        if (sender, boot_id) not in self._peers:
            raise DatagramError("unknown")
        window = self._peers[sender, boot_id]
        if window is not None and not window.is_fresh(counter):
            raise DatagramError("replay")
        cipher = self._ciphers(secret, key_id, sender, boot_id)
        try:
            plain = cipher.decrypt(_NONCE.pack(0, counter), datagram[header_bytes:], header)
        except InvalidTag as error:
            raise DatagramError("seal") from error
        if window is not None:
            window.mark(counter)
        return Opened(NodeName(sender), BootId(boot_id), counter, window is not None, plain)


class FrameSealer:
    """Seals the frames of one direction of a stream."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0

    def seal(self, plain: bytes) -> bytes:
        """The frame that carries `plain`, at most `FRAME_PLAIN_BYTES_MAX` bytes."""
        assert len(plain) <= FRAME_PLAIN_BYTES_MAX
        assert self._counter < _COUNTER_MAX
        length = _FRAME_LENGTH.pack(len(plain) + SEAL_TAG_BYTES)
        sealed = self._cipher.encrypt(_NONCE.pack(0, self._counter), plain, length)
        self._counter += 1
        return length + sealed


class FrameOpener:
    """Opens the frames of one direction of a stream, whatever pieces they arrive in."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a frame that has not arrived in whole; at most one frame's."""
        return len(self._buffer)

    def receive(self, chunk: bytes) -> Iterator[bytes]:
        """Yields the plaintext of each frame that `chunk` completes; use it up before the next.

        Raises:
            SealError: when a length is out of range or a frame is not authentic; the stream is
                then of no further use.
        """
        self._buffer += chunk
        start = 0
        try:
            while len(self._buffer) - start >= _FRAME_LENGTH.size:
                (length,) = _FRAME_LENGTH.unpack_from(self._buffer, start)
                if not SEAL_TAG_BYTES <= length <= FRAME_SEALED_BYTES_MAX:
                    raise SealError("a frame's length is out of range")
                end = start + _FRAME_LENGTH.size + length
                if len(self._buffer) < end:
                    return
                header = bytes(self._buffer[start : start + _FRAME_LENGTH.size])
                sealed = bytes(self._buffer[start + _FRAME_LENGTH.size : end])
                start = end
                yield self._open(sealed, header)
        finally:
            del self._buffer[:start]

    def _open(self, sealed: bytes, header: bytes) -> bytes:
        try:
            plain = self._cipher.decrypt(_NONCE.pack(0, self._counter), sealed, header)
        except InvalidTag as error:
            raise SealError("a frame is not authentic") from error
        self._counter += 1
        return plain
