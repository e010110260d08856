"""The handshake that opens a stream: who are you, and do you hold one of our secrets?

Owns both sides of it as pure machines, and the reasons of a refusal. Must not know sockets,
time-outs or who is a member: the node decides on an identity once it is proven. The fresh
X25519 key of each side is injected as bytes.

    initiator                                responder
        HELLO  ────────────────────────────▶            versions, key ids, label, who, public key
               ◀──────────────────────────── WELCOME    the same, the chosen version and key id,
                                                        proof over both
        PROVE  ────────────────────────────▶            proof over both
               ◀──────────────────────────── ACCEPT     or, at any point, REFUSE with a reason
        sealed frames ◀────────────────────▶ sealed frames

Keys and proofs come from HKDF over (X25519 result, chosen secret, transcript), so that neither a
stolen secret opens recorded streams nor a stranger passes for a member. A REFUSE is in the clear
and proves nothing: its receiver logs it and goes on trying.

Spec: protocol/spec/handshake.md.
"""

import enum
import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import NewType

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshlb.errors import WireError
from meshlb.model import Address, BootId, KeyId, NodeName
from meshlb.wire.codec import record_codec
from meshlb.wire.key_schedule import Keys, derive_keys, proof_of
from meshlb.wire.limits import HANDSHAKE_FRAME_BYTES_MAX
from meshlb.wire.reading import byte_string, text
from meshlb.wire.refusal import Refusal
from meshlb.wire.seal import (
    CLUSTER_LABEL_BYTES,
    ClusterLabel,
    FrameOpener,
    FrameSealer,
    Keyring,
)
from meshlb.wire.versions import OURS, Dialect, Feature, Versions

PublicKey = NewType("PublicKey", bytes)
Proof = NewType("Proof", bytes)
Reason = NewType("Reason", str)
EPHEMERAL_BYTES = 32
PROOF_BYTES = 32
TLS_RECORD = b"\x16"

byte_string(ClusterLabel, CLUSTER_LABEL_BYTES)
byte_string(PublicKey, EPHEMERAL_BYTES)
byte_string(Proof, PROOF_BYTES)
text(Reason)


class FrameKind(enum.IntEnum):
    """The first byte of each message of the handshake."""

    HELLO = 1
    WELCOME = 2
    PROVE = 3
    ACCEPT = 4
    REFUSE = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node says it is; proven once the handshake is done."""

    name: NodeName
    boot_id: BootId
    address: Address
    """Where the other members reach it."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The initiator's first message."""

    version_min: int
    version_max: int
    key_ids: tuple[KeyId, ...]
    label: ClusterLabel
    identity: Identity
    public_key: PublicKey
    features: int = 0


@dataclass(frozen=True, slots=True)
class Welcome:
    """The responder's answer; `WelcomeProof` follows in the same frame."""

    version: int
    key_id: KeyId
    label: ClusterLabel
    identity: Identity
    public_key: PublicKey
    features: int = 0
    """Those of the initiator's that the responder has as well."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Why the sender will not talk, as text: a later version may know more reasons."""

    reason: Reason


_pack_hello, _unpack_hello = record_codec(Hello)
_pack_welcome, _unpack_welcome = record_codec(Welcome)
_pack_refuse, _unpack_refuse = record_codec(Refuse)
_FRAME = struct.Struct("!BH")


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes to the peer."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Proven:
    """The peer is who it says; go on with `confirm` or `accept`, or `refuse`."""

    peer: Identity


@dataclass(frozen=True, slots=True)
class Established:
    """The handshake is done; `rest` is what followed it and belongs to `opener`."""

    peer: Identity
    dialect: Dialect
    """What the two may say to each other."""
    key_id: KeyId
    """Of the secret that authenticated it."""
    sealer: FrameSealer
    opener: FrameOpener
    rest: bytes


@dataclass(frozen=True, slots=True)
class RefusedPeer:
    """We refuse the peer, who calls itself `claimed_name`: write `payload`, then close.

    `detail` is the reason in words, where more is known of it.
    """

    reason: Refusal
    claimed_name: NodeName | None
    payload: bytes
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RefusedByPeer:
    """The peer, or somebody on the way, says that it refuses us: close."""

    reason: Refusal


Step = Send | Proven | Established | RefusedPeer | RefusedByPeer


def frame(kind: FrameKind, body: bytes = b"") -> bytes:
    """A message of the handshake, ready to be written."""
    assert len(body) <= HANDSHAKE_FRAME_BYTES_MAX
    return _FRAME.pack(kind, len(body)) + body


def refuse_frame(reason: Refusal) -> bytes:
    """The clear message that tells a peer why it is refused."""
    return frame(FrameKind.REFUSE, _pack_refuse(Refuse(Reason(reason.value))))


class _Side:
    """What both sides share: frames out of bytes, and a step per frame until the end."""

    _dialect: Dialect

    def __init__(
        self,
        me: Identity,
        *,
        keyring: Keyring,
        label: ClusterLabel,
        ephemeral: bytes,
        versions: Versions = OURS,
    ) -> None:
        assert len(ephemeral) == EPHEMERAL_BYTES
        self.me = me
        self._versions = versions
        self._keyring = keyring
        self._label = label
        self._private = X25519PrivateKey.from_private_bytes(ephemeral)
        self._public = PublicKey(self._private.public_key().public_bytes_raw())
        self._buffer = bytearray()
        self._peer: Identity | None = None
        self._done = False

    def receive(self, chunk: bytes) -> list[Step]:
        """The steps that `chunk` leads to; after an end, nothing may be received any more.

        Raises:
            WireError: when the peer does not speak this protocol; close without an answer.
        """
        assert not self._done, "the handshake has ended"
        self._buffer += chunk
        steps: list[Step] = []
        while (received := self._next_frame()) is not None:
            kind, body = received
            if kind is FrameKind.REFUSE:
                step: Step = self._end(RefusedByPeer(Refusal.of(_unpack_refuse(body).reason)))
            else:
                step = self._step(kind, body)
            steps.append(step)
            if not isinstance(step, Send):
                break
        return steps

    def refuse(self, reason: Refusal, detail: str = "") -> RefusedPeer:
        """Ends the handshake because the node does not want this peer."""
        self._done = True
        claimed_name = self._peer.name if self._peer else None
        return RefusedPeer(reason, claimed_name, refuse_frame(reason), detail)

    def _next_frame(self) -> tuple[FrameKind, bytes] | None:
        if not self._buffer:
            return None
        try:
            kind = FrameKind(self._buffer[0])
        except ValueError as error:
            raise WireError("no message of the handshake begins like this") from error
        if len(self._buffer) < _FRAME.size:
            return None
        _, length = _FRAME.unpack_from(self._buffer)
        if length > HANDSHAKE_FRAME_BYTES_MAX:
            raise WireError("a message of the handshake is too long")
        end = _FRAME.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_FRAME.size : end])
        del self._buffer[:end]
        return kind, body

    def _end(self, step: Step) -> Step:
        self._done = True
        return step

    def _unfit(self, peer: Identity, label: ClusterLabel) -> Refusal | None:
        """Why a peer is refused before its proof is looked at."""
        self._peer = peer
        if label != self._label:
            return Refusal.OTHER_CLUSTER
        if peer.name == self.me.name:
            return Refusal.SELF if peer.boot_id == self.me.boot_id else Refusal.NAME_TAKEN
        return None

    def _established(self, keys: Keys, outward: bytes, inward: bytes) -> Established:
        assert self._peer is not None
        sealer, opener, rest = FrameSealer(outward), FrameOpener(inward), bytes(self._buffer)
        return Established(self._peer, self._dialect, keys.key_id, sealer, opener, rest)

    def _step(self, kind: FrameKind, body: bytes) -> Step:
        raise WireError(f"{kind.name} is out of turn")


class Initiator(_Side):
    """The side that dialled."""

    _keys: Keys | None = None
    _has_confirmed = False

    def start(self) -> Send:
        """The first message; call it once, before `receive`."""
        hello = Hello(
            self._versions.lowest,
            self._versions.highest,
            self._keyring.key_ids,
            self._label,
            self.me,
            self._public,
            self._versions.features,
        )
        self._hello = frame(FrameKind.HELLO, _pack_hello(hello))
        return Send(self._hello)

    def _step(self, kind: FrameKind, body: bytes) -> Step:
        if kind is FrameKind.WELCOME and self._keys is None:
            return self._welcomed(body)
        if kind is FrameKind.ACCEPT and self._has_confirmed and not body:
            keys = self._keys
            assert keys is not None
            return self._end(self._established(keys, keys.to_responder, keys.to_initiator))
        return super()._step(kind, body)

    def _welcomed(self, body: bytes) -> Step:
        encoded, proof = body[:-PROOF_BYTES], body[-PROOF_BYTES:]
        welcome: Welcome = _unpack_welcome(encoded)
        if (reason := self._unfit(welcome.identity, welcome.label)) is not None:
            return self.refuse(reason)
        if not self._versions.lowest <= welcome.version <= self._versions.highest:
            return self.refuse(Refusal.OTHER_VERSION)
        if (secret := self._keyring.secret(welcome.key_id)) is None:
            return self.refuse(Refusal.OTHER_SECRET)
        transcript = hashlib.sha256(self._hello + encoded).digest()
        keys = derive_keys(welcome.key_id, secret, self._private, welcome.public_key, transcript)
        if not hmac.compare_digest(proof, proof_of(keys.responder_proof)):
            return self.refuse(Refusal.OTHER_SECRET)
        self._keys = keys
        self._dialect = self._versions.dialect(welcome.version, welcome.features)
        return Proven(welcome.identity)

    def confirm(self) -> Send:
        """Goes on with the proven responder: it may let this node in."""
        assert self._keys is not None, "confirm comes after Proven"
        assert not self._has_confirmed
        self._has_confirmed = True
        return Send(frame(FrameKind.PROVE, proof_of(self._keys.initiator_proof)))


class Responder(_Side):
    """The side that was dialled."""

    _keys: Keys | None = None
    _proven = False

    def receive(self, chunk: bytes) -> list[Step]:
        """As on each side; who begins with TLS is told that this one has none."""
        if self._keys is None and not self._buffer and chunk[:1] == TLS_RECORD:
            return [self.refuse(Refusal.NO_TLS)]
        return super().receive(chunk)

    def _step(self, kind: FrameKind, body: bytes) -> Step:
        if kind is FrameKind.HELLO and self._keys is None:
            return self._greeted(body)
        if kind is FrameKind.PROVE and self._keys is not None and not self._proven:
            assert self._peer is not None
            if not hmac.compare_digest(body, proof_of(self._keys.initiator_proof)):
                return self.refuse(Refusal.OTHER_SECRET)
            self._proven = True
            return Proven(self._peer)
        return super()._step(kind, body)

    def _greeted(self, body: bytes) -> Step:
        hello: Hello = _unpack_hello(body)
        if (reason := self._unfit(hello.identity, hello.label)) is not None:
            return self.refuse(reason)
        theirs = Versions(hello.version_min, hello.version_max, Feature(hello.features))
        if (dialect := self._versions.common(theirs)) is None:
            return self.refuse(Refusal.OTHER_VERSION, f"it speaks {theirs}, not {self._versions}")
        if (key_id := self._keyring.common(hello.key_ids)) is None:
            return self.refuse(Refusal.OTHER_SECRET)
        secret = self._keyring.secret(key_id)
        assert secret is not None
        welcome = _pack_welcome(
            Welcome(dialect.version, key_id, self._label, self.me, self._public, dialect.features)
        )
        transcript = hashlib.sha256(frame(FrameKind.HELLO, body) + welcome).digest()
        self._keys = derive_keys(key_id, secret, self._private, hello.public_key, transcript)
        self._dialect = dialect
        return Send(frame(FrameKind.WELCOME, welcome + proof_of(self._keys.responder_proof)))

    def accept(self) -> tuple[Send, Established]:
        """Lets the proven peer in."""
        assert self._proven, "accept comes after Proven"
        keys = self._keys
        assert keys is not None
        self._done = True
        established = self._established(keys, keys.to_initiator, keys.to_responder)
        return Send(frame(FrameKind.ACCEPT)), established
