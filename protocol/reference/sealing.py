"""Datagrams and frames: from sealed bytes to the batch inside.

Spec: ../spec/sealing.md. Replay windows and introductions are states of a receiver; here a
datagram is looked at alone, by who was introduced.
"""

from dataclasses import dataclass

from protocol.reference.messages import LIMITS
from protocol.reference.primitives import TAG_BYTES, blake2b, hkdf, open_gcm
from protocol.reference.unpack import Malformed

VERSION = 1
_NAME_AT = 30
"""Bytes before the sender's name: version, key id, label, boot id, counter, its length."""


class Refused(Malformed):
    """A datagram that is not opened, for one of the reasons that the vectors name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Datagram:
    """What a datagram says, and who sealed it."""

    sender: str
    boot_id: int
    counter: int
    plain: bytes


def key_id(secret: bytes) -> bytes:
    """4 bytes that name a secret."""
    return hkdf(secret, salt=b"", info=b"meshlb key id", size=4)


def cluster_label(cluster: str) -> bytes:
    """8 bytes that stand for the name of a cluster."""
    return blake2b(cluster.encode(), size=8, person=b"meshlb label")


def nonce(counter: int) -> bytes:
    """Of a datagram or a frame."""
    return bytes(4) + counter.to_bytes(8, "big")


def open_datagram(
    datagram: bytes, *, secrets: list[bytes], cluster: str, introduced: list[tuple[str, int]]
) -> Datagram:
    """What is in a datagram.

    Raises:
        Refused: for the first reason that applies, in the order of S3.
    """
    if not _NAME_AT + TAG_BYTES < len(datagram) <= LIMITS["datagram_bytes_max"]:
        raise Refused("malformed")
    if datagram[0] != VERSION:
        raise Refused("version")
    if datagram[5:13] != cluster_label(cluster):
        raise Refused("cluster")
    secret = next((each for each in secrets if key_id(each) == datagram[1:5]), None)
    if secret is None:
        raise Refused("key")
    name_bytes = datagram[29]
    text_at = _NAME_AT + name_bytes
    if not 1 <= name_bytes <= LIMITS["name_bytes_max"] or len(datagram) < text_at + TAG_BYTES:
        raise Refused("malformed")
    header, name = datagram[:text_at], datagram[_NAME_AT:text_at]
    boot_id = int.from_bytes(datagram[13:21], "big")
    counter = int.from_bytes(datagram[21:29], "big")
    if (name.decode("latin-1"), boot_id) not in introduced:
        raise Refused("unknown")
    info = b"meshlb datagram" + datagram[1:5] + datagram[13:21] + name
    key = hkdf(secret, salt=b"", info=info, size=32)
    try:
        plain = open_gcm(key, nonce=nonce(counter), sealed=datagram[text_at:], associated=header)
    except Malformed as error:
        raise Refused("seal") from error
    return Datagram(name.decode(), boot_id, counter, plain)


def open_frames(key: bytes, stream: bytes) -> list[bytes]:
    """The batches in the frames of one direction of a stream, from its beginning.

    Raises:
        Malformed: at a length out of range, a frame that is not authentic or a part of one.
    """
    plains: list[bytes] = []
    at = 0
    while at < len(stream):
        length = int.from_bytes(stream[at : at + 4], "big")
        end = at + 4 + length
        if not TAG_BYTES <= length <= LIMITS["frame_plain_bytes_max"] + TAG_BYTES:
            raise Malformed("a length out of range")
        if end > len(stream):
            raise Malformed("a part of a frame")
        plains.append(
            open_gcm(
                key,
                nonce=nonce(len(plains)),
                sealed=stream[at + 4 : end],
                associated=stream[at : at + 4],
            )
        )
        at = end
    return plains
