"""The version before, as it is kept in `protocol/version-1`: this one still gets on with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshlb.model import Address, BootId, NodeName
from meshlb.wire.broadcast_words import BroadcastAck
from meshlb.wire.challenge import Challenge
from meshlb.wire.codec import decode, encode
from meshlb.wire.handshake import Established, Identity, Initiator, Proven, Responder, Send
from meshlb.wire.messages import Ack, Message
from meshlb.wire.seal import Keyring, cluster_label
from meshlb.wire.versions import FIRST, OURS, Dialect
from tests.fakes import version_1
from tests.vectors.test_vectors import LATER, as_json

KEPT = Path(__file__).parents[2] / "protocol" / "version-1" / "vectors"
MESSAGES = json.loads((KEPT / "messages.json").read_text(encoding="utf-8"))
HANDSHAKE = json.loads((KEPT / "handshake.json").read_text(encoding="utf-8"))


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def plain(value: Any) -> Any:
    """What the double has read, as the vectors write it."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def is_in(said: Any, read: Any) -> bool:
    """Whether all that version 1 said was read; today's values may have more fields."""
    if isinstance(said, dict):
        return all(is_in(value, read[name]) for name, value in said.items())
    if isinstance(said, list):
        return len(said) == len(read) and all(map(is_in, said, read))
    return bool(said == read)


# The double --------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", named(MESSAGES["valid"]))
def test_the_double_reads_what_version_1_wrote(vector: dict[str, Any]) -> None:
    read = version_1.decode(bytes.fromhex(vector["hex"]))
    assert [{"message": name, **plain(fields)} for name, fields in read] == vector["batch"]


def test_the_double_refuses_what_version_1_refused_for_its_numbers_and_types() -> None:
    """What only its limits on text and addresses would refuse is not the double's business."""
    refused = 0
    for vector in MESSAGES["malformed"]:
        try:
            version_1.decode(bytes.fromhex(vector["hex"]))
        except version_1.Stranger:
            refused += 1
    assert refused >= len(MESSAGES["malformed"]) * 9 // 10


# Today's codec ------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", named(MESSAGES["valid"]))
def test_what_version_1_wrote_still_means_the_same(vector: dict[str, Any]) -> None:
    batch = decode(bytes.fromhex(vector["hex"]))
    read = [{"message": type(message).__name__, **as_json(message)} for message in batch]
    assert is_in(vector["batch"], read)


@pytest.mark.parametrize(
    "vector", [each for each in named(MESSAGES["valid"]) if each.id not in LATER]
)
def test_what_is_written_today_means_the_same_to_version_1(vector: dict[str, Any]) -> None:
    batch = decode(bytes.fromhex(vector["hex"]))
    assert version_1.encode(batch).hex() == vector["hex"]
    read = version_1.decode(encode(batch))
    assert [{"message": name, **plain(fields)} for name, fields in read] == vector["batch"]


@pytest.mark.parametrize("message", [Challenge(1), BroadcastAck(1)])
def test_what_is_new_would_spoil_a_batch_for_version_1(message: Message) -> None:
    """So it must not be sent there; today it is only passed over (see `versions.md`)."""
    with pytest.raises(version_1.Stranger):
        version_1.decode(encode([Ack(1), message]))
    assert type(message) not in Dialect(1).kinds


# The handshake ------------------------------------------------------------------------------


def who(role: str) -> dict[str, Any]:
    side = HANDSHAKE[role]
    return {
        "me": Identity(NodeName(side["name"]), BootId(side["boot_id"]), Address(*side["address"])),
        "keyring": Keyring(tuple(bytes.fromhex(secret) for secret in side["secrets"])),
        "label": cluster_label(HANDSHAKE["cluster"]),
        "ephemeral": bytes.fromhex(side["ephemeral"]),
    }


def test_a_hello_of_version_1_is_answered_in_version_1() -> None:
    dialled = Responder(**who("responder"))
    (step,) = dialled.receive(bytes.fromhex(HANDSHAKE["hello"]))
    assert isinstance(step, Send)
    assert dialled._dialect == Dialect(1)


@pytest.mark.parametrize(("dialler", "dialled"), [(OURS, FIRST), (FIRST, OURS)])
def test_a_stream_to_a_node_of_version_1_speaks_version_1(dialler: Any, dialled: Any) -> None:
    one = Initiator(**who("initiator"), versions=dialler)
    other = Responder(**who("responder"), versions=dialled)
    (welcome,) = other.receive(one.start().payload)
    assert isinstance(welcome, Send)
    (proven,) = one.receive(welcome.payload)
    assert isinstance(proven, Proven)
    (proven,) = other.receive(one.confirm().payload)
    assert isinstance(proven, Proven)
    accept, inside = other.accept()
    (outside,) = one.receive(accept.payload)
    assert isinstance(outside, Established)
    assert outside.dialect == inside.dialect == Dialect(1)
