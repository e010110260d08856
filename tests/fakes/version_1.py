"""Version 1 of the protocol, as it was: a double of the codec that later versions must get on with.

Reads and writes by the schema that is kept in `protocol/version-1`, and shares no code with
`meshlb.wire`. Strict as version 1 was: a message that it does not know spoils the batch.
"""

import enum
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgpack

SCHEMA = tomllib.loads(
    (Path(__file__).parents[2] / "protocol" / "version-1" / "messages.toml").read_text("utf-8")
)
LIMITS: dict[str, int] = SCHEMA["limit"]
NODE_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
NAMES = {message["id"]: name for name, message in SCHEMA["message"].items()}
ITEMS_MAX = {
    "MemberUpdate": LIMITS["members_per_message_max"],
    "PinRecord": LIMITS["pins_per_message_max"],
    "Position": LIMITS["positions_per_message_max"],
    "KeyHash": LIMITS["keys_per_message_max"],
    "session-key": LIMITS["keys_per_message_max"],
    "bucket": LIMITS["buckets"],
    "uint": LIMITS["buckets"],
    "KeyWord": LIMITS["key_words_max"],
}
"""What an array of each type may hold; of any other, `values_per_field_max`."""
BYTES = {"session-key": 16, "key-id": 4, "secret": 32, "hash-key": 32}


class Stranger(Exception):  # noqa: N818 - the finding is about who said it
    """What was said is not of version 1."""


# Writing -----------------------------------------------------------------------------------


def encode(messages: Iterable[object]) -> bytes:
    """A batch of messages, which may be of any later version: their fields are found by name."""
    batch = []
    for message in messages:
        name = type(message).__name__
        if name not in SCHEMA["message"]:
            raise Stranger(f"version 1 has no {name}")
        known = SCHEMA["message"][name]
        batch.append([known["id"], *_values(message, known["fields"])])
    packed: bytes = msgpack.packb(batch)
    return packed


def _values(record: object, fields: list[list[str]]) -> Iterator[Any]:
    for name, kind in fields:
        yield _written(kind.removesuffix("?"), getattr(record, name))


def _written(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind.endswith("[]"):
        return [_written(kind[:-2], item) for item in value]
    if kind in SCHEMA["record"]:
        return list(_values(value, SCHEMA["record"][kind]["fields"]))
    if kind == "address":
        return [value.host, value.port]
    return value.value if isinstance(value, enum.Enum) else value


# Reading -----------------------------------------------------------------------------------


def decode(encoded: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The messages of a batch: name, and fields by name; a record is a dict as well.

    Raises:
        Stranger: where version 1 would have refused the batch.
    """
    try:
        batch = msgpack.unpackb(
            encoded,
            use_list=False,
            max_array_len=LIMITS["messages_per_frame_max"],
            max_str_len=LIMITS["name_bytes_max"],
            max_bin_len=LIMITS["name_bytes_max"],
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Stranger("no MessagePack within limits") from error
    if not isinstance(batch, tuple):
        raise Stranger("no batch")
    return [_message(item) for item in batch]


def _message(item: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(item, tuple) or not item or type(item[0]) is not int:
        raise Stranger("no message")
    if (name := NAMES.get(item[0])) is None:
        raise Stranger(f"version 1 has no message {item[0]}")
    return name, _fields(SCHEMA["message"][name]["fields"], item[1:])


def _fields(fields: list[list[str]], values: tuple[Any, ...]) -> dict[str, Any]:
    """Those behind the ones of version 1 are ignored."""
    if len(values) < len(fields):
        raise Stranger("fields are missing")
    return {name: _read(kind, value) for (name, kind), value in zip(fields, values, strict=False)}


def _read(kind: str, value: Any) -> Any:
    if kind.endswith("?"):
        return None if value is None else _read(kind[:-1], value)
    if kind.endswith("[]"):
        item = kind[:-2]
        if not isinstance(value, tuple) or len(value) > ITEMS_MAX.get(
            item, LIMITS["values_per_field_max"]
        ):
            raise Stranger("too many")
        return tuple(_read(item, each) for each in value)
    if kind in SCHEMA["record"]:
        if not isinstance(value, tuple):
            raise Stranger(f"no {kind}")
        return _fields(SCHEMA["record"][kind]["fields"], value)
    if not _is_a(kind, value):
        raise Stranger(f"no {kind}: {value!r}")
    return value


def _is_a(kind: str, value: Any) -> bool:
    match kind:
        case "uint":
            return type(value) is int and value >= 0
        case "bool":
            return type(value) is bool
        case "node-name":
            return isinstance(value, str) and NODE_NAME.fullmatch(value) is not None
        case "name":
            return isinstance(value, str) and value != ""
        case "name-or-empty":
            return isinstance(value, str)
        case "session-key" | "key-id" | "secret" | "hash-key":
            return isinstance(value, bytes) and len(value) == BYTES[kind]
        case "bucket":
            return type(value) is int and 0 <= value < LIMITS["buckets"]
        case "address":
            return isinstance(value, tuple) and len(value) >= 2 and type(value[1]) is int
    values = SCHEMA["enum"][kind].values()
    return any(type(value) is type(known) and value == known for known in values)
