"""`protocol/messages.toml` and `meshlb.wire` say the same; neither is made from the other."""

import dataclasses
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
from meshlb.wire import limits, versions
from meshlb.wire.broadcast_words import Payload, Topic
from meshlb.wire.key_words import InstalledKey, KeyWord
from meshlb.wire.messages import (
    DATAGRAM_MESSAGES,
    STREAM_MESSAGES,
    TYPE_IDS,
    BucketNumber,
    KeyHash,
    MemberUpdate,
    PinRecord,
    Position,
    Rank,
    Verdict,
)
from meshlb.wire.runs import Hash64, PackedEnds, PackedPins, RunName

SCHEMA = tomllib.loads(
    (Path(__file__).parents[2] / "protocol" / "messages.toml").read_text(encoding="utf-8")
)
VERSION_1 = tomllib.loads(
    (Path(__file__).parents[2] / "protocol" / "version-1" / "messages.toml").read_text(
        encoding="utf-8"
    )
)
WIRE_TYPES: dict[object, str] = {
    int: "uint",
    bool: "bool",
    BootId: "uint",
    Hash64: "uint",
    Topic: "name",
    Payload: "payload",
    RunName: "name",
    PackedPins: "packed-pins",
    PackedEnds: "packed-ends",
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


def fields(cls: type) -> list[list[typing.Any]]:
    """As the schema has them; what may be absent with its value then."""
    hints = typing.get_type_hints(cls)
    return [
        [field.name, wire_type(hints[field.name])]
        + ([] if field.default is dataclasses.MISSING else [field.default])
        for field in dataclasses.fields(cls)
    ]


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


def test_the_versions_and_features_are_those_of_the_schema() -> None:
    span = (SCHEMA["protocol_version_min"], SCHEMA["protocol_version"])
    assert span == (versions.VERSION_MIN, versions.VERSION_MAX)
    assert SCHEMA["feature"] == {feature.name: feature for feature in versions.Feature}


@pytest.mark.parametrize("cls", TYPE_IDS.values())
def test_a_message_is_as_old_as_the_schema_says_and_part_of_that_feature(cls: type) -> None:
    message = SCHEMA["message"][cls.__name__]
    feature = versions.FEATURE_OF.get(cls)
    assert message.get("feature") == (None if feature is None else feature.name)
    since = versions.FEATURES_SINCE if feature else versions.SINCE.get(cls, 1)
    assert message.get("since", 1) == since


def test_version_1_is_kept_as_it_was_and_its_messages_only_grew() -> None:
    for kind in ("message", "record"):
        for name, then in VERSION_1[kind].items():
            now = SCHEMA[kind][name]
            grown = now["fields"][len(then["fields"]) :]
            assert now["fields"][: len(then["fields"])] == then["fields"]
            assert all(len(field) == 3 for field in grown), "what version 1 does not send"
            assert {key: now.get(key) for key in ("id", "carrier")} == {
                key: then.get(key) for key in ("id", "carrier")
            }
    of_1 = {cls.__name__ for cls in versions.Dialect(1).kinds}
    assert of_1 == set(VERSION_1["message"])
    assert {name: SCHEMA["enum"][name] for name in VERSION_1["enum"]} == VERSION_1["enum"]
