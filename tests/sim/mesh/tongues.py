"""What the processes of a simulated mesh speak: today's version, or the one before.

Owns: how messages become what travels, and back. Between two of today they travel as they are; to
and from the version before as bytes, written or read by its own double. Must not know: what the
messages mean.
"""

import enum
import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Protocol

from meshlb.model import Address
from meshlb.wire import codec
from meshlb.wire.messages import TYPE_IDS, Message
from meshlb.wire.versions import FIRST, OURS, Versions
from tests.fakes import version_1

Frame = tuple[Message, ...] | bytes
"""What travels."""

_CLASSES = {cls.__name__: cls for cls in TYPE_IDS.values()}


class Tongue(Protocol):
    """One version, as a process speaks it."""

    versions: Versions

    def out(self, messages: tuple[Message, ...]) -> Frame:
        """What leaves."""
        ...

    def into(self, frame: Frame) -> tuple[Message, ...]:
        """What is heard; raises what the version does not understand."""
        ...


class _Today:
    versions = OURS

    def out(self, messages: tuple[Message, ...]) -> Frame:
        return messages

    def into(self, frame: Frame) -> tuple[Message, ...]:
        return codec.decode(frame) if isinstance(frame, bytes) else frame


class _Before:
    versions = FIRST

    def out(self, messages: tuple[Message, ...]) -> Frame:
        return version_1.encode(messages)

    def into(self, frame: Frame) -> tuple[Message, ...]:
        encoded = frame if isinstance(frame, bytes) else codec.encode(frame)
        return tuple(_built(_CLASSES[name], read) for name, read in version_1.decode(encoded))


def _built(cls: Any, read: dict[str, Any]) -> Any:
    """Today's value for what the double has read; what it does not know is left out."""
    hints = _hints(cls)
    return cls(
        **{
            field.name: _value(hints[field.name], read[field.name])
            for field in fields(cls)
            if field.name in read
        }
    )


def _value(hint: Any, value: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return None if value is None else _value(typing.get_args(hint)[0], value)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(typing.get_args(hint)[0], item) for item in value)
    if hint is Address:
        return Address(value[0], value[1])
    if is_dataclass(hint):
        return _built(hint, value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, enum.Enum) else value


_hints = cache(typing.get_type_hints)

TODAY: Tongue = _Today()
BEFORE: Tongue = _Before()
