"""Messages to bytes and back: MessagePack, strict in what it accepts.

Owns the encoding, derived at import from the annotations of the dataclasses in `messages`; there
is no second description of a message in the code. Must not know what a message means, nor who
sent it.

A batch is an array of messages; a message is an array `[type id, field, ...]` in the order of
the dataclass. A nested value is an array of its fields without an id. Enums travel by value.
Fields behind those we know are ignored and so are messages of a number that we do not know, so that
a later version may add some; everything else that deviates raises `WireError`, and nothing but
`WireError` is ever raised by `decode`.

Spec: protocol/spec/messages.md.
"""

import dataclasses
import enum
import ipaddress
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgpack

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
    ARRAY_ITEMS_MAX,
    BUCKETS,
    KEY_WORDS_MAX,
    KEYS_PER_MESSAGE_MAX,
    MEMBERS_PER_MESSAGE_MAX,
    MESSAGE_BYTES_MAX,
    MESSAGES_PER_FRAME_MAX,
    NAME_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    PINS_PER_MESSAGE_MAX,
    POSITIONS_PER_MESSAGE_MAX,
    VALUES_PER_FIELD_MAX,
)
from meshlb.wire.messages import (
    TYPE_IDS,
    BucketNumber,
    Hash64,
    KeyHash,
    MemberUpdate,
    Message,
    PinRecord,
    Position,
)

Decoder = Callable[[Any], Any]
"""Turns what msgpack read into a field's value, or raises `WireError`."""

_COUNT_MAX: dict[object, int] = {
    MemberUpdate: MEMBERS_PER_MESSAGE_MAX,
    PinRecord: PINS_PER_MESSAGE_MAX,
    KeyWord: KEY_WORDS_MAX,
    Position: POSITIONS_PER_MESSAGE_MAX,
    BucketNumber: BUCKETS,
    Hash64: BUCKETS,
    KeyHash: KEYS_PER_MESSAGE_MAX,
    SessionKey: KEYS_PER_MESSAGE_MAX,
}
_PORT_MAX = 65_535
_NODE_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_BYTES_MAX}}}").fullmatch


def encode_message(message: Message) -> bytes:
    """One message; `join` makes a batch of several. Encode once, send to many.

    Raises:
        WireError: when the message is larger than a frame; the caller made it too large.
    """
    packed: bytes = _pack(_to_array[type(message)](message))
    if len(packed) > MESSAGE_BYTES_MAX:
        raise WireError(f"a {type(message).__name__} of {len(packed)} bytes fits no frame")
    return packed


def join(encoded: Sequence[bytes]) -> bytes:
    """A batch of encoded messages, at most `MESSAGES_PER_FRAME_MAX`."""
    assert len(encoded) <= MESSAGES_PER_FRAME_MAX
    return _array_header(len(encoded)) + b"".join(encoded)


def encode(messages: Iterable[Message]) -> bytes:
    """A batch of messages."""
    return join([encode_message(message) for message in messages])


def decode(
    encoded: bytes, on_unknown: Callable[[int], None] = lambda type_id: None
) -> tuple[Message, ...]:
    """The messages of a batch that this version knows; `on_unknown` is told of each other one.

    Raises:
        WireError: when any of it is not as the specification says; no part of it is used.
    """
    batch = _unpack(encoded)
    if type(batch) is not tuple:
        raise WireError("a batch is an array of messages")
    messages: list[Message] = []
    for item in batch:
        if type(item) is not tuple or not item or type(item[0]) is not int:
            raise WireError("a message is an array that begins with its type id")
        if (from_fields := _from_fields.get(item[0])) is not None:
            messages.append(from_fields(item[1:]))
        elif item[0] >= 0:
            on_unknown(item[0])
        else:
            raise WireError("a type id is unsigned")
    return tuple(messages)


def record_codec(cls: type[Any]) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Encoder and decoder of a dataclass that stands alone, without a type id."""
    decoder = _decoder(cls)
    return _pack, lambda encoded: decoder(_unpack(encoded))


def byte_string(name: Any, size_bytes: int) -> None:
    """Makes the NewType `name` a field type: exactly `size_bytes` bytes."""
    _SCALARS[name] = _exactly(size_bytes)


def text(name: Any) -> None:
    """Makes the NewType `name` a field type: text that is not empty."""
    _SCALARS[name] = _pool_name


# Reading -----------------------------------------------------------------------------------


def _unpack(encoded: bytes) -> Any:
    try:
        return msgpack.unpackb(
            encoded,
            use_list=False,
            max_array_len=ARRAY_ITEMS_MAX,
            max_str_len=NAME_BYTES_MAX,
            max_bin_len=PAYLOAD_BYTES_MAX,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not MessagePack within limits: {type(error).__name__}") from error


def _integer(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise WireError("expected an unsigned integer")
    return value  # msgpack knows none above 2**64 - 1


def _bucket_number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < BUCKETS:
        raise WireError("expected the number of a bucket")
    return value


def _boolean(value: Any) -> bool:
    if value is not True and value is not False:
        raise WireError("expected a boolean")
    return value


def _node_name(value: Any) -> str:
    if type(value) is not str or _NODE_NAME(value) is None:
        raise WireError("expected a node name")
    return value


def _text(value: Any) -> str:
    """A pool's or backend's name; msgpack has checked its length in bytes."""
    if type(value) is not str:
        raise WireError("expected a name")
    return value


def _pool_name(value: Any) -> str:
    if not (name := _text(value)):
        raise WireError("expected a pool name")
    return name


def _exactly(size_bytes: int) -> Decoder:
    def decode_bytes(value: Any) -> bytes:
        if type(value) is not bytes or len(value) != size_bytes:
            raise WireError(f"expected {size_bytes} bytes")
        return value

    return decode_bytes


def _payload(value: Any) -> bytes:
    if type(value) is not bytes:
        raise WireError("expected a payload")
    return value  # msgpack has checked its length


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


_SCALARS: dict[Any, Decoder] = {
    int: _integer,
    bool: _boolean,
    BootId: _integer,
    Hash64: _integer,
    Topic: _pool_name,
    Payload: _payload,
    BucketNumber: _bucket_number,
    NodeName: _node_name,
    PoolName: _pool_name,
    BackendName: _text,
    SessionKey: _exactly(SESSION_KEY_BYTES),
    KeyId: _exactly(KEY_ID_BYTES),
    ClusterSecret: _exactly(CLUSTER_SECRET_BYTES),
    HashKey: _exactly(HASH_KEY_BYTES),
    Address: _address,
}


def _decoder(hint: Any) -> Decoder:
    """The decoder of one annotation; an annotation that has none is our bug."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _enum_decoder(hint)
    if dataclasses.is_dataclass(hint):
        return _nested_decoder(typing.cast("type[Any]", hint))
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is types.UnionType and arguments[1:] == (types.NoneType,):
        present = _decoder(arguments[0])
        return lambda value: None if value is None else present(value)
    if typing.get_origin(hint) is tuple and arguments[1:] == (...,):
        return _sequence_decoder(arguments[0])
    raise TypeError(f"no wire form for {hint!r}")


def _enum_decoder(cls: type[enum.Enum]) -> Decoder:
    values: dict[Any, enum.Enum] = {member.value: member for member in cls}
    value_type = type(next(iter(values)))

    def decode_enum(value: Any) -> enum.Enum:
        # The type first: True equals 1, and an unhashable value would raise a TypeError.
        if type(value) is not value_type or (member := values.get(value)) is None:
            raise WireError(f"expected a {cls.__name__}")
        return member

    return decode_enum


def _sequence_decoder(hint: Any) -> Decoder:
    decode_item = _decoder(hint)
    count_max = _COUNT_MAX.get(hint, VALUES_PER_FIELD_MAX)

    def decode_sequence(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple or len(value) > count_max:
            raise WireError(f"expected an array of at most {count_max}")
        return tuple([decode_item(item) for item in value])

    return decode_sequence


def _nested_decoder(cls: type[Any]) -> Decoder:
    from_fields = _fields_decoder(cls)

    def decode_nested(value: Any) -> Any:
        if type(value) is not tuple:
            raise WireError(f"expected the fields of a {cls.__name__}")
        return from_fields(value)

    return decode_nested


def _fields_decoder(cls: type[Any]) -> Callable[[tuple[Any, ...]], Any]:
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    decoders = tuple(_decoder(hints[field.name]) for field in fields)
    required = sum(field.default is dataclasses.MISSING for field in fields)

    def from_fields(values: tuple[Any, ...]) -> Any:
        if len(values) < required:
            raise WireError(f"a {cls.__name__} lacks fields")
        return cls(*[decode(value) for decode, value in zip(decoders, values, strict=False)])

    return from_fields


# Writing -----------------------------------------------------------------------------------


def _array_of(cls: type[Any], *prefix: int) -> Callable[[Any], tuple[Any, ...]]:
    names = [field.name for field in dataclasses.fields(cls)]
    if len(names) == 1:  # attrgetter of one name gives the value, not a tuple
        only = attrgetter(names[0])
        return lambda record: (*prefix, only(record))
    fields = attrgetter(*names)
    return lambda record: (*prefix, *fields(record))


_nested: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {}


def _nested_array(record: Any) -> tuple[Any, ...]:
    """What msgpack asks for a value it does not know: a dataclass inside a message."""
    cls = type(record)
    if cls not in _nested:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(f"no wire form for a {cls.__name__}")
        _nested[cls] = _array_of(cls)
    return _nested[cls](record)


_packer = msgpack.Packer(default=_nested_array, autoreset=True)
_pack: Callable[[Any], bytes] = _packer.pack
_headers = msgpack.Packer(autoreset=True)
_array_header: Callable[[int], bytes] = _headers.pack_array_header

_from_fields = {type_id: _fields_decoder(cls) for type_id, cls in TYPE_IDS.items()}
_to_array = {cls: _array_of(cls, type_id) for type_id, cls in TYPE_IDS.items()}
