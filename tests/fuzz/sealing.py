"""What was not sealed by a member opens nothing, raises only our errors, and leaves no trace.

- `datagrams`: genuine, played again, changed and made up; a second opener that gets the genuine
  ones alone stays in step, so the window never moves on a forgery. The reference sees the same
  reason, where nothing but the bytes decides.
- `frames`: what comes out of a changed stream is a beginning of what went in.
- `handshake`: neither side believes its peer unless it was sent exactly what the vectors hold.

Input: a byte that picks one of these, then operations.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from meshlb.errors import SealError, WireError
from meshlb.model import Address, BootId, NodeName
from meshlb.wire.handshake import Established, Identity, Initiator, Proven, Responder
from meshlb.wire.seal import (
    DatagramError,
    DatagramOpener,
    DatagramSealer,
    FrameOpener,
    FrameSealer,
    Keyring,
    Opened,
    cluster_label,
)
from protocol.reference import sealing as reference
from tests.fuzz.reader import Reader

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
DATAGRAMS: dict[str, Any] = json.loads((VECTORS / "datagrams.json").read_text(encoding="utf-8"))
HANDSHAKE: dict[str, Any] = json.loads((VECTORS / "handshake.json").read_text(encoding="utf-8"))

SECRETS = tuple(bytes.fromhex(secret) for secret in DATAGRAMS["secrets"])
LABEL = cluster_label(DATAGRAMS["cluster"])
PROVEN, INTRODUCED = (NodeName("lb-1"), BootId(7)), (NodeName("lb-2"), BootId(8))
OPERATIONS_MAX = 16
REFERENCE_BYTES_MAX = 160
"""The reference takes its time over each block."""

PLAIN = bytes.fromhex("90")


class Opener(Protocol):
    def open(self, datagram: bytes) -> Opened: ...


def opener() -> DatagramOpener:
    made = DatagramOpener(Keyring(SECRETS), label=LABEL)
    made.introduce(*PROVEN)
    made.prove(*PROVEN, counter=0)
    made.introduce(*INTRODUCED)
    return made


def _genuine() -> list[bytes]:
    """From both, under both secrets; some so far apart that the window leaves others behind."""
    sealed = []
    for (name, boot_id), secrets in (
        (PROVEN, SECRETS),
        (PROVEN, SECRETS[::-1]),
        (INTRODUCED, SECRETS),
    ):
        sealer = DatagramSealer(Keyring(secrets), label=LABEL, sender=name, boot_id=boot_id)
        run = [sealer.seal(PLAIN) for _ in range(2_200)]
        sealed += [run[at] for at in (0, 1, 2, 63, 64, 2_047, 2_048, 2_049, 2_199)]
    return sealed


GENUINE = _genuine()
FRAMES = [b"", PLAIN, b"x" * 40, b"y" * 300]
FRAME_KEY = b"k" * 32


def changed(original: bytes, reader: Reader) -> bytes:
    """`original` with some bytes replaced, cut out or put in."""
    at = reader.number(2) % (len(original) + 1)
    cut = reader.number() % 8
    put = reader.take(reader.number() % 8)
    return original[:at] + put + original[at + cut :]


def _verdict(opener: Opener, datagram: bytes) -> Opened | str:
    try:
        return opener.open(datagram)
    except DatagramError as error:
        return error.reason


def datagrams(reader: Reader, under_test: Callable[[], Opener]) -> None:
    tested, honest = under_test(), opener()
    for _ in range(OPERATIONS_MAX):
        if reader.is_empty:
            break
        genuine = reader.pick(GENUINE)
        kind = reader.number() % 3
        given = (genuine, changed(genuine, reader), reader.take(reader.number()))[kind]
        verdict = _verdict(tested, given)
        if given in GENUINE:
            assert verdict == _verdict(honest, given)
        else:
            assert isinstance(verdict, str), "a forgery opened"
            _compare_reason(given, verdict)
    for genuine in GENUINE:
        assert _verdict(tested, genuine) == _verdict(honest, genuine)


def _compare_reason(given: bytes, verdict: str) -> None:
    if len(given) > REFERENCE_BYTES_MAX or verdict == "replay":
        return
    reason = None
    try:
        reference.open_datagram(
            given,
            secrets=list(SECRETS),
            cluster=DATAGRAMS["cluster"],
            introduced=[PROVEN, INTRODUCED],
        )
    except reference.Refused as error:
        reason = error.reason
    assert reason == verdict


def frames(reader: Reader) -> None:
    sealer = FrameSealer(FRAME_KEY)
    stream = b"".join(map(sealer.seal, FRAMES))
    for _ in range(reader.number() % 3):
        stream = changed(stream, reader)
    got, opening = [], FrameOpener(FRAME_KEY)
    try:
        while stream:
            size = 1 + reader.number()
            got += opening.receive(stream[:size])
            stream = stream[size:]
    except SealError:
        pass
    assert got == FRAMES[: len(got)]


def handshake(reader: Reader) -> None:
    role = reader.pick(["initiator", "responder"])
    sent = ("welcome", "accept") if role == "initiator" else ("hello", "prove")
    first, second = (bytes.fromhex(HANDSHAKE[name]) for name in sent)
    stream = first + second
    for _ in range(reader.number() % 3):
        stream = changed(stream, reader)
    side = _side(role)
    if isinstance(side, Initiator):
        side.start()
    believed_at = len(first) if role == "initiator" else len(first + second)
    heard = 0
    try:
        while heard < len(stream):
            size = 1 + reader.number()
            steps = side.receive(stream[heard : heard + size])
            heard += size
            for step in steps:
                assert not isinstance(step, Established) or stream.startswith(first + second)
                if isinstance(step, Proven):
                    assert stream.startswith((first + second)[:believed_at])
                    if isinstance(side, Initiator):
                        side.confirm()
                    else:
                        return
                elif type(step).__name__ != "Send":
                    return
    except WireError:
        assert not stream.startswith(first + second)


def _side(role: str) -> Initiator | Responder:
    who = HANDSHAKE[role]
    made = Initiator if role == "initiator" else Responder
    return made(
        Identity(NodeName(who["name"]), BootId(who["boot_id"]), Address(*who["address"])),
        keyring=Keyring(tuple(bytes.fromhex(secret) for secret in who["secrets"])),
        label=cluster_label(HANDSHAKE["cluster"]),
        ephemeral=bytes.fromhex(who["ephemeral"]),
    )


def check(given: bytes, under_test: Callable[[], Opener] = opener) -> None:
    """Raises what must not happen."""
    reader = Reader(given)
    kind = reader.number() % 3
    if kind == 0:
        datagrams(reader, under_test)
    elif kind == 1:
        frames(reader)
    else:
        handshake(reader)


def seeds() -> Iterator[bytes]:
    for number in range(len(GENUINE)):
        yield bytes([0, number, 0, number, 1, 0, number, 1, 0xFF])
    for vector in DATAGRAMS["valid"] + DATAGRAMS["malformed"]:
        datagram = bytes.fromhex(vector["hex"])[:255]
        yield bytes([0, 0, 2, len(datagram)]) + datagram
    for kind in (1, 2):
        for changes in range(3):
            for at in (0, 3, 30, 70):
                yield bytes([kind, at & 1, changes, 0, at, 1, 1, at, 0, at, 2, 0, 7, 99])
