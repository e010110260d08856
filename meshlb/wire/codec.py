"""Messages to bytes and back: MessagePack, strict in what it accepts.

Owns batches and the encoding, derived at import from the annotations of the dataclasses in
`messages`; there is no second description of a message in the code. What a field may hold is for
`reading`. Must not know what a message means, nor who sent it.

A batch is an array of messages; a message is an array `[type id, field, ...]` in the order of
the dataclass. A nested value is an array of its fields without an id. Enums travel by value.
Fields behind those we know are ignored and so are messages of a number that we do not know, so that
a later version may add some; everything else that deviates raises `WireError`, and nothing but
`WireError` is ever raised by `decode`.

Spec: protocol/spec/messages.md.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack

from meshlb.errors import WireError
from meshlb.wire.limits import (
    ARRAY_ITEMS_MAX,
    BIN_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    MESSAGES_PER_FRAME_MAX,
    NAME_BYTES_MAX,
)
from meshlb.wire.messages import TYPE_IDS, Message
from meshlb.wire.reading import decoder, fields_decoder


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
            messages.append(from_fields(item))
        elif item[0] >= 0:
            on_unknown(item[0])
        else:
            raise WireError("a type id is unsigned")
    return tuple(messages)


def record_codec(cls: type[Any]) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Encoder and decoder of a dataclass that stands alone, without a type id."""
    from_fields = decoder(cls)
    return _pack, lambda encoded: from_fields(_unpack(encoded))


# Reading -----------------------------------------------------------------------------------


def _unpack(encoded: bytes) -> Any:
    try:
        return msgpack.unpackb(
            encoded,
            use_list=False,
            max_array_len=ARRAY_ITEMS_MAX,
            max_str_len=NAME_BYTES_MAX,
            max_bin_len=BIN_BYTES_MAX,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not MessagePack within limits: {type(error).__name__}") from error


# Writing -----------------------------------------------------------------------------------


def _array_of(cls: type[Any], *prefix: int) -> Callable[[Any], tuple[Any, ...]]:
    """A function that gives the fields of a `cls` behind `prefix`; compiled, as in `reading`.

    What is nested in it, or None in its place, becomes a tuple where it stands.
    """
    hints = typing.get_type_hints(cls)
    items = [*map(str, prefix)]
    for field in dataclasses.fields(cls):
        value, nested = f"record.{field.name}", _nested_in(hints[field.name])
        if nested is not None:
            inner = "".join(f"{value}.{part.name}, " for part in dataclasses.fields(nested))
            value = f"({inner}) if {value} is not None else None"
        items.append(value)
    return typing.cast(
        "Callable[[Any], tuple[Any, ...]]", eval(f"lambda record: ({', '.join(items)},)")
    )


def _nested_in(hint: Any) -> type[Any] | None:
    if typing.get_origin(hint) is types.UnionType:
        hint = typing.get_args(hint)[0]
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


_nested: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {}


def _nested_array(record: Any) -> tuple[Any, ...]:
    """What msgpack asks for a value it does not know: a dataclass in a list of them."""
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

_from_fields = {type_id: fields_decoder(cls, skipped=1) for type_id, cls in TYPE_IDS.items()}
_to_array = {cls: _array_of(cls, type_id) for type_id, cls in TYPE_IDS.items()}
