"""Batches of messages, read by the schema in `messages.toml` and by nothing else.

A message becomes a dict as the vectors write it: its name under `message`, then its fields; keys
and other bytes as hexadecimal text.

Spec: ../spec/messages.md.
"""

import ipaddress
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.reference.unpack import Malformed, unpack

SCHEMA = tomllib.loads(
    (Path(__file__).resolve().parents[1] / "messages.toml").read_text(encoding="utf-8")
)
LIMITS: dict[str, int] = SCHEMA["limit"]

_BYTES = {"session-key": 16, "key-id": 4, "secret": 32, "hash-key": 32}
_ITEMS_MAX = {
    "MemberUpdate": "members_per_message_max",
    "PinRecord": "pins_per_message_max",
    "Position": "positions_per_message_max",
    "KeyHash": "keys_per_message_max",
    "session-key": "keys_per_message_max",
    "bucket": "buckets",
    "uint": "buckets",
    "name": "run_names_max",
    "KeyWord": "key_words_max",
}
"""What an array of each type may hold; of any other, `values_per_field_max`."""

_BY_ID = {message["id"]: name for name, message in SCHEMA["message"].items()}
_NODE_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")


def decode(encoded: bytes, *, carrier: str | None = None) -> list[dict[str, Any]]:
    """The messages of a batch that the schema knows; others are ignored.

    Args:
        encoded: the batch.
        carrier: `datagram` or `stream`: refuse what may not travel there.

    Raises:
        Malformed: where any of it is not as the specification says.
    """
    batch = unpack(encoded, LIMITS)
    if not isinstance(batch, tuple):
        raise Malformed("a batch is an array")
    messages = [_message(item, carrier) for item in batch]
    return [message for message in messages if message is not None]


def _message(item: Any, carrier: str | None) -> dict[str, Any] | None:
    if not isinstance(item, tuple) or not item or type(item[0]) is not int or item[0] < 0:
        raise Malformed("a message is an array that begins with its number")
    name = _BY_ID.get(item[0])
    if name is None:
        return None
    message = SCHEMA["message"][name]
    if carrier is not None and message["carrier"] not in ("both", carrier):
        raise Malformed(f"{name} may not travel there")
    return {"message": name, **fields(message["fields"], item[1:])}


def fields(schema: list[list[Any]], values: tuple[Any, ...]) -> dict[str, Any]:
    """The values by name; those behind the ones that the schema knows are ignored."""
    read: dict[str, Any] = {}
    for place, (name, kind, *absent) in enumerate(schema):
        if place < len(values):
            read[name] = _field(kind, values[place])
        elif absent:
            read[name] = absent[0]
        else:
            raise Malformed("fields are missing")
    return read


def _field(kind: str, value: Any) -> Any:
    if kind.endswith("?"):
        return None if value is None else _field(kind[:-1], value)
    if kind.endswith("[]"):
        item = kind[:-2]
        count_max = LIMITS[_ITEMS_MAX.get(item, "values_per_field_max")]
        if not isinstance(value, tuple) or len(value) > count_max:
            raise Malformed(f"expected an array of at most {count_max}")
        return [_field(item, each) for each in value]
    if kind in SCHEMA["record"]:
        if not isinstance(value, tuple):
            raise Malformed(f"expected the fields of a {kind}")
        return fields(SCHEMA["record"][kind]["fields"], value)
    if kind in SCHEMA["enum"]:
        return _enum(SCHEMA["enum"][kind], value)
    if kind in _BYTES:
        return _bytes(value, _BYTES[kind]).hex()
    return _SCALARS[kind](value)


def _enum(values: dict[str, Any], value: Any) -> Any:
    for allowed in values.values():
        if type(value) is type(allowed) and value == allowed:
            return value
    raise Malformed("no value of the enum")


def _bytes(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise Malformed(f"expected {size} bytes")
    return value


def _uint(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise Malformed("expected an unsigned integer")
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Malformed("expected a boolean")
    return value


def _node_name(value: Any) -> str:
    if not isinstance(value, str) or _NODE_NAME.fullmatch(value) is None:
        raise Malformed("expected the name of a node")
    return value


def _name_or_empty(value: Any) -> str:
    if not isinstance(value, str):
        raise Malformed("expected a name")
    return value


def _name(value: Any) -> str:
    if not _name_or_empty(value):
        raise Malformed("expected a name that is not empty")
    return str(value)


def _bucket(value: Any) -> int:
    if _uint(value) >= LIMITS["buckets"]:
        raise Malformed("no bucket has that number")
    return int(value)


def _payload(value: Any) -> str:
    if not isinstance(value, bytes) or len(value) > LIMITS["payload_bytes_max"]:
        raise Malformed("expected bytes, and not so many")
    return value.hex()


def _packed(size: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, bytes) or len(value) % size:
            raise Malformed(f"expected a multiple of {size} bytes")
        if len(value) > LIMITS["run_pins_max"] * size:
            raise Malformed("too many at once")
        return value.hex()

    return read


def _address(value: Any) -> list[Any]:
    if not isinstance(value, tuple) or len(value) < 2:
        raise Malformed("expected an address")
    host, port = value[0], _uint(value[1])
    if not isinstance(host, str) or len(host) > LIMITS["address_host_bytes_max"] or port > 65_535:
        raise Malformed("expected an IP address and a port")
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise Malformed("expected an IP address") from error
    return [host, port]


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "uint": _uint,
    "bool": _bool,
    "node-name": _node_name,
    "name": _name,
    "name-or-empty": _name_or_empty,
    "bucket": _bucket,
    "payload": _payload,
    "packed-pins": _packed(LIMITS["packed_pin_bytes"]),
    "packed-ends": _packed(LIMITS["packed_end_bytes"]),
    "address": _address,
}
