"""Writes `docs/configuration.md` from the schema: `python -m meshlb.config.reference`.

Owns the form of the document; every word about an option is the schema's or its kind's.
"""

import sys
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from meshlb.config import paths
from meshlb.config.kinds import Kind
from meshlb.config.schema import Settings, Table
from meshlb.config.unsupported import UNSUPPORTED

HEAD = """\
# Configuration

<!-- Generated from meshlb/config/schema by `python -m meshlb.config.reference`; do not edit. -->

A node reads one TOML file: `meshlb run CONFIG`. `meshlb check CONFIG` names every fault of a file
at once, with its place and what is allowed; it reads files and opens no port, so it passes beside
a running node. A key that is not listed here is a fault.

Durations have a unit: `ms`, `s`, `m`, `h`, `d`. Sizes too: `B`, `KiB`, `MiB`. Relative paths
start at the directory of the file.

The smallest useful file:

```toml
[[listener]]
name = "web"
bind = "127.0.0.1:8080"
pool = "app"

[pool.app]
sticky = [{ by = "cookie" }]

[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:9001"
```
"""


def render() -> str:
    """The whole document."""
    return HEAD + "".join(_table(Settings, ""))


def _table(table: type[Table], header: str) -> Iterator[str]:
    """The options of a table, then its sub-tables; `header` is as TOML writes it."""
    inner: list[tuple[str, FieldInfo]] = []
    if header:
        brackets = f"[[{header}]]" if header.startswith("*") else f"[{header}]"
        yield f"\n## `{brackets.replace('*', '')}`\n\n{_prose(table.__doc__)}\n"
        limit = _limit(header.replace("*", ""))
        if limit:
            yield f"\n{limit}\n"
    for name, field in table.model_fields.items():
        key = paths.toml_key(name, field)
        if isinstance(paths.option(field), Kind):
            yield from _option(key, field, header)
        else:
            inner.append((key, field))
    for key, field in inner:
        yield from _sub_table(key, field, header)


def _sub_table(key: str, field: FieldInfo, header: str) -> Iterator[str]:
    many = paths.is_many(field)
    plain = header.removeprefix("*")
    path = f"{plain}.{key}" if plain else key
    marks = {"list": f"*{path}", "map": f"{path}.NAME", "": path}
    yield from _table(paths.option(field), marks[many])


def _option(key: str, field: FieldInfo, header: str) -> Iterator[str]:
    kind = paths.option(field)
    allowed = kind.allowed
    if paths.is_many(field) == "list":
        allowed = f"a list, each {allowed}"
    yield f"\n### `{key}`\n\n{_prose(field.description)}\n\n"
    yield f"- Allowed: {allowed}.\n"
    yield f"- Default: {_default(field, kind)}.\n"
    limit = _limit(f"{header.replace('*', '')}.{key}")
    if limit:
        yield f"- {limit}\n"


def _default(field: FieldInfo, kind: Kind) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "shown" in extra:
        return str(extra["shown"])
    value: Any = field.default
    if value is PydanticUndefined:
        return "none; required"
    if value is None:
        return "none"
    return "an empty list" if value == () else f"`{kind.show(value)}`"


def _limit(path: str) -> str:
    for unsupported in UNSUPPORTED:
        if unsupported.pattern.replace(".*", "") == path.replace(".NAME", ""):
            only = ", ".join(f"`{value!s}`".lower() for value in unsupported.values)
            return f"**In this version only** {only}." if only else "**Not in this version.**"
    return ""


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    sys.stdout.write(render())
