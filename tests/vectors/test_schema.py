"""`protocol/messages.toml` and `meshlb.wire` say the same; neither is made from the other."""

import enum
import tomllib
import types
import typing
from pathlib import Path

import pytest

from meshlb.model import (
    Address,
    BackendName,
    BackendState,
    BootId,
    ClusterSecret,
    HashKey,
    KeyId,
    KeySource,
    MemberState,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.wire import handshake, limits
from meshlb.wire.key_words import InstalledKey, KeyWord
from meshlb.wire.messages import (
    DATAGRAM_MESSAGES,
    STREAM_MESSAGES,
    TYPE_IDS,
    BucketNumber,
    Hash64,
    KeyHash,
    MemberUpdate,
    Payload,
    PinRecord,
    Position,
    Rank,
    Topic,
    Verdict,
)

SCHEMA = tomllib.loads(
    (Path(__file__).parents[2] / "protocol" / "messages.toml").read_text(encoding="utf-8")
)
WIRE_TYPES: dict[object, str] = {
    int: "uint",
    bool: "bool",
    BootId: "uint",
    Hash64: "uint",
    Topic: "name",
    Payload: "payload",
    BucketNumber: "bucket",
    NodeName: "node-name",
    PoolName: "name",
    BackendName: "name-or-empty",
    SessionKey: "session-key",
    KeyId: "key-id",
    ClusterSecret: "secret",
    HashKey: "hash-key",
    Address: "address",
}
ENUMS: list[type[enum.Enum]] = [MemberState, Rank, Verdict, KeySource, BackendState]
RECORDS = [MemberUpdate, PinRecord, Position, KeyHash, InstalledKey, KeyWord]


def wire_type(hint: typing.Any) -> str:
    if hint in WIRE_TYPES:
        return WIRE_TYPES[hint]
    if hint in ENUMS or hint in RECORDS:
        return str(hint.__name__)
    item = wire_type(typing.get_args(hint)[0])
    return f"{item}?" if typing.get_origin(hint) is types.UnionType else f"{item}[]"


def fields(cls: type) -> list[list[str]]:
    return [[name, wire_type(hint)] for name, hint in typing.get_type_hints(cls).items()]


def test_the_schema_has_the_messages_of_the_code_and_no_others() -> None:
    ids = {message["id"]: name for name, message in SCHEMA["message"].items()}
    assert ids == {type_id: cls.__name__ for type_id, cls in TYPE_IDS.items()}


@pytest.mark.parametrize("cls", TYPE_IDS.values())
def test_a_message_has_the_fields_of_the_schema(cls: type) -> None:
    assert SCHEMA["message"][cls.__name__]["fields"] == fields(cls)


@pytest.mark.parametrize("cls", TYPE_IDS.values())
def test_a_message_travels_where_the_schema_says(cls: type) -> None:
    carriers = {
        (True, True): "both",
        (True, False): "datagram",
        (False, True): "stream",
    }
    carrier = carriers[cls in DATAGRAM_MESSAGES, cls in STREAM_MESSAGES]
    assert SCHEMA["message"][cls.__name__]["carrier"] == carrier


@pytest.mark.parametrize("cls", RECORDS)
def test_a_record_has_the_fields_of_the_schema(cls: type) -> None:
    assert SCHEMA["record"][cls.__name__]["fields"] == fields(cls)


@pytest.mark.parametrize("cls", ENUMS)
def test_an_enum_has_the_values_of_the_schema(cls: type[enum.Enum]) -> None:
    assert SCHEMA["enum"][cls.__name__] == {member.name: member.value for member in cls}


def test_the_limits_are_those_of_the_schema() -> None:
    assert SCHEMA["limit"] == {name: getattr(limits, name.upper()) for name in SCHEMA["limit"]}


def test_the_version_is_that_of_the_schema() -> None:
    assert SCHEMA["protocol_version"] == handshake.PROTOCOL_VERSION_MAX
