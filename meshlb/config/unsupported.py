"""What the configuration can say and this version cannot do yet: the one list of it.

Each is refused as a fault that says so, for an option that is silently ignored is worse than none.
Whoever builds one of these removes its line here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meshlb.config import paths
from meshlb.config.faults import show_value
from meshlb.config.kinds import Kind
from meshlb.config.paths import Place
from meshlb.config.schema import Settings
from meshlb.model import KeySource


@dataclass(frozen=True, slots=True)
class Unsupported:
    """An option at `pattern` (see `paths.find`) that can only have one of `values` so far."""

    pattern: str
    what: str
    values: tuple[Any, ...] = ()


UNSUPPORTED: Final = (
    Unsupported(
        "pool.*.sticky.*.by",
        "session keys from SOAP headers",
        tuple(source for source in KeySource if source is not KeySource.SOAP),
    ),
)


def faults(document: object) -> Iterator[str]:
    """A line for each use of something that this version cannot do."""
    for unsupported in UNSUPPORTED:
        for place, value in paths.find(document, unsupported.pattern):
            if value in unsupported.values or not _is_allowed(place, value):
                continue
            only = " or ".join(map(show_value, unsupported.values))
            hint = f"use {only}" if only else "leave it out"
            yield (
                f"{paths.show(place)}: this version of meshlb does not support "
                f"{unsupported.what} yet; {hint}"
            )


def _is_allowed(place: Place, value: object) -> bool:
    """Whether the schema takes the value; where not, it says so itself."""
    option = paths.at(Settings, place)
    if not isinstance(option, Kind):
        return True
    try:
        option.read(value, Path())
    except ValueError:
        return False
    return True
