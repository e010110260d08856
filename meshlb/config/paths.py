"""Places in the configuration: how they are written, and which option stands at one.

A place is a tuple of keys and indices, as in `("pool", "app", "backend", 1, "address")`. Owns the
walk over the schema's annotations; it must not know what any option means.
"""

import re
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from meshlb.config.kinds import Kind
from meshlb.config.schema import Table

Place = tuple[str | int, ...]


def show(place: Place) -> str:
    """The place as a person would write it: `pool.app.backend[1].address`."""
    shown = ""
    for part in place:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part, re.ASCII) is not None
            shown += ("." if shown else "") + (part if bare else f'"{part}"')
    return shown


def toml_key(name: str, field: FieldInfo) -> str:
    """The key in the file of the field that Python calls `name`."""
    return field.alias or name


def inner(annotation: Any) -> Any:
    """What stands in an annotation once `Annotated`, `| None` and the collection are taken off.

    A `Kind`, a class of `Table`, or the annotation itself where it is neither.
    """
    if get_origin(annotation) is Annotated:
        for extra in annotation.__metadata__:
            if isinstance(extra, Kind):
                return extra
        return inner(annotation.__origin__)
    if get_origin(annotation) is tuple:
        return inner(get_args(annotation)[0])
    if get_origin(annotation) is Mapping:
        return inner(get_args(annotation)[1])
    options = [option for option in get_args(annotation) if option is not NoneType]
    return inner(options[0]) if len(options) == 1 else annotation


def option(field: FieldInfo) -> Any:
    """The `Kind` or the class of `Table` of a field; pydantic moves metadata to the field."""
    for extra in field.metadata:
        if isinstance(extra, Kind):
            return extra
    return inner(field.annotation)


def is_many(field: FieldInfo) -> str:
    """`"list"` for a list, `"map"` for tables by name, else the empty string."""
    origin = get_origin(field.annotation)
    return "list" if origin is tuple else "map" if origin is Mapping else ""


def at(table: type[Table], place: Place) -> Any:
    """The `Kind` or class of `Table` at `place`; None where the schema has no such place."""
    return _walk(table, place)[0]


def many_at(table: type[Table], place: Place) -> str:
    """`"list"` or `"map"` where `place` is a whole collection, and not one item of it."""
    return _walk(table, place)[1]


def _walk(table: type[Table], place: Place) -> tuple[Any, str]:
    current: Any = table
    many = ""
    for part in place:
        if many:
            many = ""
            continue
        if not (isinstance(current, type) and issubclass(current, Table)):
            return None, ""
        fields = {toml_key(name, field): field for name, field in current.model_fields.items()}
        if part not in fields:
            return None, ""
        field = fields[str(part)]
        current, many = option(field), is_many(field)
    return current, many


def known_keys(table: type[Table]) -> list[str]:
    """The keys a table may have, in the order of the schema."""
    return [toml_key(name, field) for name, field in table.model_fields.items()]


def find(document: object, pattern: str) -> Iterator[tuple[Place, Any]]:
    """Every value in a document that `pattern`, such as `pool.*.backend.*.name`, reaches.

    `*` stands for every key of a table and every index of a list. Anything of another shape than
    the pattern expects is passed over: the schema reports that.
    """
    yield from _find(document, pattern.split("."), ())


def _find(value: object, rest: list[str], place: Place) -> Iterator[tuple[Place, Any]]:
    if not rest:
        yield place, value
    elif rest[0] == "*":
        children: Any = ()
        if isinstance(value, Mapping):
            children = value.items()
        elif isinstance(value, list):
            children = enumerate(value)
        for key, child in children:
            yield from _find(child, rest[1:], (*place, key))
    elif isinstance(value, Mapping) and rest[0] in value:
        yield from _find(value[rest[0]], rest[1:], (*place, rest[0]))
