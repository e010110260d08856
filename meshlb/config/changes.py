"""How two configurations differ, and which differences a running node can take in.

Owns the list of what a reload can change, so that an option that is new is refused until somebody
has thought about it, and of what not even an upgrade can. Opens no file, changes nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshlb.config import paths
from meshlb.config.kinds import Secret
from meshlb.config.paths import Place
from meshlb.config.schema import BackendSettings, ListenerSettings, Settings, Table

CHANGEABLE: Final[tuple[Place, ...]] = (
    ("node", "shutdown_timeout"),
    ("cluster", "join"),
    ("cluster", "secrets"),
    ("cluster", "secrets_file"),
    ("cluster", "tls", "cert"),
    ("cluster", "tls", "key"),
    ("cluster", "tls", "ca"),
    ("cluster", "tls", "verify_names"),
    ("listener",),
    ("pool",),
)
"""What stands at these places, or below them."""

IDENTITY: Final[tuple[Place, ...]] = (("node", "name"), ("node", "data_dir"), ("cluster", "name"))
"""What makes a process the same node as the one before it."""

NAMED: Final = (ListenerSettings, BackendSettings)
"""Tables in lists that have a name of their own."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place at which two configurations differ. Tables in lists go by their names."""

    place: Place
    what: str
    """`added`, `removed`, or the old value and the new one; of secrets only that they changed."""

    def __str__(self) -> str:
        return f"{paths.show(self.place)}: {self.what}"

    @property
    def needs_restart(self) -> bool:
        """Whether a running node cannot take it in."""
        return not any(self.place[: len(known)] == known for known in CHANGEABLE)

    @property
    def needs_another_node(self) -> bool:
        """Whether a new process cannot take over from one without it."""
        return any(known[: len(self.place)] == self.place for known in IDENTITY)


def differences(old: Settings, new: Settings) -> tuple[Difference, ...]:
    """Every difference, in the order of the schema."""
    return tuple(_tables(old, new, ()))


def _tables(old: Table, new: Table, place: Place) -> Iterator[Difference]:
    for name, field in type(new).model_fields.items():
        here = (*place, paths.toml_key(name, field))
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(paths.option(field), Secret):
            yield Difference(here, "changed")
        else:
            yield from _values(name, before, after, here)


def _values(name: str, old: Any, new: Any, place: Place) -> Iterator[Difference]:
    if isinstance(old, Table) and isinstance(new, Table):
        yield from _tables(old, new, place)
    elif isinstance(old, Table) or isinstance(new, Table):
        yield Difference(place, "removed" if new is None else "added")
    elif (before := _by_name(old)) is not None and (after := _by_name(new)) is not None:
        yield from _named(before, after, place)
    else:
        yield Difference(place, f"{_shown(name, old)} → {_shown(name, new)}")


def _named(
    old: Mapping[str, Table], new: Mapping[str, Table], place: Place
) -> Iterator[Difference]:
    for name in old:
        if name not in new:
            yield Difference((*place, name), "removed")
    for name, table in new.items():
        if name not in old:
            yield Difference((*place, name), "added")
        elif old[name] != table:
            yield from _tables(old[name], table, (*place, name))
    if list(old) != list(new) and old.keys() == new.keys():
        yield Difference(place, "in another order")


def _by_name(value: Any) -> Mapping[str, Table] | None:
    """The tables in a collection by the names that tell them apart; None where they have none."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple) and all(isinstance(item, NAMED) for item in value):
        return {item.name: item for item in value}
    return None


def _shown(name: str, value: Any) -> str:
    """A value for people; the unit is the end of the field's name."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(_shown(name, item) for item in value)}]"
        case Table():
            return str(getattr(value, "by", "a table"))
        case float() if name.endswith("_s"):
            return f"{value:g}s"
        case int() if name.endswith("_bytes"):
            return f"{value}B"
        case _:
            return str(value)
