"""From what msgpack has read to messages: the check of every field, compiled at import.

Owns what each annotation of a message means on the wire. For each class one function is written
and compiled, as `dataclass` does for a constructor: it checks all fields in one expression and
makes the value. A loop over fields would take three times as long, and decoding is what a node
does most. Must not know batches, type ids, or what a message means.

Spec: protocol/spec/messages.md.
"""

import dataclasses
import enum
import ipaddress
import re
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from meshlb.errors import WireError
from meshlb.model import (
    CLUSTER_SECRET_BYTES,
    HASH_KEY_BYTES,
    KEY_ID_BYTES,
    SESSION_KEY_BYTES,
    Address,
    BackendName,
    BootId,
    ClusterSecret,
    HashKey,
    KeyId,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.wire.broadcast_words import Payload, Topic
from meshlb.wire.key_words import KeyWord
from meshlb.wire.limits import (
    ADDRESS_HOST_BYTES_MAX,
    BUCKETS,
    KEY_WORDS_MAX,
    KEYS_PER_MESSAGE_MAX,
    MEMBERS_PER_MESSAGE_MAX,
    NAME_BYTES_MAX,
    PACKED_END_BYTES,
    PACKED_PIN_BYTES,
    PAYLOAD_BYTES_MAX,
    PINS_PER_MESSAGE_MAX,
    POSITIONS_PER_MESSAGE_MAX,
    RUN_NAMES_MAX,
    RUN_PINS_MAX,
    VALUES_PER_FIELD_MAX,
)
from meshlb.wire.messages import (
    BucketNumber,
    KeyHash,
    MemberUpdate,
    PinRecord,
    Position,
)
from meshlb.wire.runs import Hash64, PackedEnds, PackedPins, RunName

Decoder = Callable[[Any], Any]
"""Turns what msgpack read into a value, or raises `WireError`."""

NAMES_REMEMBERED_MAX = 4_096
"""Node names that are known to be well-formed."""

_COUNT_MAX: dict[object, int] = {
    MemberUpdate: MEMBERS_PER_MESSAGE_MAX,
    PinRecord: PINS_PER_MESSAGE_MAX,
    KeyWord: KEY_WORDS_MAX,
    Position: POSITIONS_PER_MESSAGE_MAX,
    BucketNumber: BUCKETS,
    Hash64: BUCKETS,
    KeyHash: KEYS_PER_MESSAGE_MAX,
    SessionKey: KEYS_PER_MESSAGE_MAX,
    RunName: RUN_NAMES_MAX,
}
_PORT_MAX = 65_535
_NODE_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_BYTES_MAX}}}").fullmatch


@lru_cache(NAMES_REMEMBERED_MAX)
def is_node_name(text: str) -> bool:
    """Whether a node may have this name."""
    return _NODE_NAME(text) is not None


# msgpack has checked the length of texts, and knows no integer above 2**64 - 1.
_UNSIGNED = "type({0}) is int and {0} >= 0"
_TEXT = "type({0}) is str"
_FILLED_TEXT = "type({0}) is str and {0} != ''"


def _exactly(size_bytes: int) -> str:
    return f"type({{0}}) is bytes and len({{0}}) == {size_bytes}"


def _at_most(count_max: int, size_bytes: int = 1) -> str:
    is_short = f"len({{0}}) <= {count_max * size_bytes}"
    return f"type({{0}}) is bytes and len({{0}}) % {size_bytes} == 0 and {is_short}"


_SCALARS: dict[Any, str] = {
    int: _UNSIGNED,
    bool: "type({0}) is bool",
    BootId: _UNSIGNED,
    Hash64: _UNSIGNED,
    Topic: _FILLED_TEXT,
    Payload: _at_most(PAYLOAD_BYTES_MAX),
    RunName: _FILLED_TEXT,
    PackedPins: _at_most(RUN_PINS_MAX, PACKED_PIN_BYTES),
    PackedEnds: _at_most(RUN_PINS_MAX, PACKED_END_BYTES),
    BucketNumber: f"type({{0}}) is int and 0 <= {{0}} < {BUCKETS}",
    NodeName: "type({0}) is str and is_node_name({0})",
    PoolName: _FILLED_TEXT,
    BackendName: _TEXT,
    SessionKey: _exactly(SESSION_KEY_BYTES),
    KeyId: _exactly(KEY_ID_BYTES),
    ClusterSecret: _exactly(CLUSTER_SECRET_BYTES),
    HashKey: _exactly(HASH_KEY_BYTES),
}
"""What is true of a good value `{0}` of a field, which is then taken as it is."""


def byte_string(name: Any, size_bytes: int) -> None:
    """Makes the NewType `name` a field type: exactly `size_bytes` bytes."""
    _SCALARS[name] = _exactly(size_bytes)


def text(name: Any) -> None:
    """Makes the NewType `name` a field type: text that is not empty."""
    _SCALARS[name] = _FILLED_TEXT


def fields_decoder(cls: type[Any], *, skipped: int = 0) -> Decoder:
    """A function that makes a `cls` of a tuple of `skipped` other values and its fields.

    Fields behind those of `cls` are ignored, and those with a default may be left out.
    """
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    required = sum(field.default is dataclasses.MISSING for field in fields)
    makers: dict[int, Decoder] = {}

    def from_another_count(values: Any) -> Any:
        if type(values) is not tuple:
            raise WireError(f"expected the fields of a {cls.__name__}")
        count = min(len(values) - skipped, len(fields))
        if count < required:
            raise WireError(f"a {cls.__name__} lacks fields")
        return makers[count](values[: skipped + count])

    for count in range(required, len(fields) + 1):
        present = [hints[field.name] for field in fields[:count]]
        makers[count] = _compile(cls, present, skipped, from_another_count)
    return makers[len(fields)]


def _compile(cls: type[Any], hints: list[Any], skipped: int, otherwise: Decoder) -> Decoder:
    names: dict[str, Any] = {
        "cls": cls,
        "otherwise": otherwise,
        "is_node_name": is_node_name,
        "WireError": WireError,
    }
    variables = [f"value{place}" for place in range(len(hints))]
    tests, arguments = [], []
    for variable, hint in zip(variables, hints, strict=True):
        if hint in _SCALARS:
            tests.append(_SCALARS[hint].format(variable))
            arguments.append(variable)
        elif isinstance(hint, type) and issubclass(hint, enum.Enum):
            members = {member.value: member for member in hint}
            kind = type(next(iter(members))).__name__
            # The type first: True equals 1, and an unhashable value would raise a TypeError.
            tests.append(f"type({variable}) is {kind} and {variable} in members_of_{variable}")
            arguments.append(f"members_of_{variable}[{variable}]")
            names[f"members_of_{variable}"] = members
        else:
            present, is_optional = _without_none(hint)
            decoded = f"decode_{variable}({variable})"
            arguments.append(
                f"None if {variable} is None else {decoded}" if is_optional else decoded
            )
            names[f"decode_{variable}"] = decoder(present)
    unpacked = "".join(f"{name}, " for name in ["_"] * skipped + variables)
    source = f"""
def from_fields(values):
    if type(values) is not tuple or len(values) != {skipped + len(hints)}:
        return otherwise(values)
    {unpacked or "()"} = values
    if not ({" and ".join(tests) or "True"}):
        raise WireError("a field of a {cls.__name__} is not what it should be")
    return cls({", ".join(arguments)})
"""
    exec(source, names)
    return typing.cast("Decoder", names["from_fields"])


def decoder(hint: Any) -> Decoder:
    """The decoder of one annotation; an annotation that has none is our bug."""
    if hint is Address:
        return _address
    if dataclasses.is_dataclass(hint):
        return fields_decoder(typing.cast("type[Any]", hint))
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and arguments[1:] == (...,):
        return _sequence_decoder(arguments[0])
    if hint in _SCALARS:
        return _scalar_decoder(hint)
    raise TypeError(f"no wire form for {hint!r}")


def _scalar_decoder(hint: Any) -> Decoder:
    test = _SCALARS[hint].format("value")
    is_good: Callable[[Any], bool] = eval(f"lambda value: {test}", {"is_node_name": is_node_name})

    def decode_scalar(value: Any) -> Any:
        if not is_good(value):
            raise WireError("a value is not what it should be")
        return value

    return decode_scalar


def _without_none(hint: Any) -> tuple[Any, bool]:
    """What is there if anything is, and whether None may be there."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is types.UnionType and arguments[1:] == (types.NoneType,):
        return arguments[0], True
    return hint, False


def _sequence_decoder(hint: Any) -> Decoder:
    decode_item = decoder(hint)
    count_max = _COUNT_MAX.get(hint, VALUES_PER_FIELD_MAX)

    def decode_sequence(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple or len(value) > count_max:
            raise WireError(f"expected an array of at most {count_max}")
        return tuple([decode_item(item) for item in value])

    return decode_sequence


def _address(value: Any) -> Address:
    if type(value) is not tuple or len(value) < 2:
        raise WireError("expected an address")
    host, port = value[0], value[1]
    if type(host) is not str or len(host) > ADDRESS_HOST_BYTES_MAX:
        raise WireError("expected an IP address as text")
    if type(port) is not int or not 0 <= port <= _PORT_MAX:
        raise WireError("expected a port")
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise WireError("expected an IP address as text") from error
    return Address(host, port)
