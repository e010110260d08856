"""Messages out of choices: any value that a field of the wire may have, or nearly."""

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from tests.fuzz.reader import Reader

Values = Mapping[Any, Callable[[Reader], Any]]
"""By the type of a field, what to take for it."""

ITEMS_MAX = 3


def value(hint: Any, reader: Reader, values: Values) -> Any:
    """A value of the type `hint`."""
    if hint in values:
        return values[hint](reader)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return reader.pick(list(hint))
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return typing.cast("Any", hint)(*[value(each, reader, values) for each in hints.values()])
    inner = typing.get_args(hint)[0]
    if typing.get_origin(hint) is types.UnionType:
        return value(inner, reader, values) if reader.number() & 1 else None
    return tuple(value(inner, reader, values) for _ in range(reader.number() % (ITEMS_MAX + 1)))
