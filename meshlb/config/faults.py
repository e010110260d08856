"""The wording of faults: the place, the value given, what is allowed. Never a secret.

Owns the sentence; what is allowed is the word of `kinds`.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

from meshlb.config import paths
from meshlb.config.kinds import Kind, Secret
from meshlb.config.paths import Place
from meshlb.config.schema import LABEL, Settings

SHOWN_CHARACTERS_MAX = 80


def nearest(word: str, known: list[str]) -> str:
    """The known word most like `word`; empty where none is near."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), "")


def in_order(lines: list[str]) -> list[str]:
    """Faults in the order of the schema's tables, those of one place together."""
    tables = paths.known_keys(Settings)

    def rank(line: str) -> tuple[int, str]:
        table = re.match(r"[a-z]*", line)
        assert table is not None
        known = table[0] in tables
        return (tables.index(table[0]) if known else len(tables), line.partition(":")[0])

    return sorted(lines, key=rank)


def show_value(value: object) -> str:
    """A value as TOML writes it; of tables and lists only that they are such."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            shortened = value if len(value) <= SHOWN_CHARACTERS_MAX else value[:77] + "…"
            return '"' + shortened.encode("unicode_escape").decode() + '"'
        case Mapping():
            return "a table"
        case list():
            return "a list"
        case _:
            return str(value)


def from_error(details: ErrorDetails) -> str:
    """One line for one of pydantic's errors."""
    place: Place = details["loc"]
    if details["type"] == "extra_forbidden":
        return _unknown(place)
    if place[-1] == "[key]":
        return f"{paths.show(place[:-1])}: expected a name of {LABEL.allowed}"
    shown = paths.show(place)
    if details["type"] == "missing":
        return f"{shown}: required: {_allowed(place)}"
    if _is_secret(place):
        return f"{shown}: expected {_allowed(place)}"
    return f"{shown} = {show_value(details['input'])}: expected {_allowed(place)}"


def _unknown(place: Place) -> str:
    """The value is not shown: it might be a secret under a misspelt key."""
    table = paths.at(Settings, place[:-1]) if len(place) > 1 else Settings
    known = paths.known_keys(table)
    near = nearest(str(place[-1]), known)
    hint = f'did you mean "{near}"?' if near else "known here: " + ", ".join(known)
    return f"{paths.show(place)}: unknown key; {hint}"


def _allowed(place: Place) -> str:
    many = paths.many_at(Settings, place)
    option: Any = paths.at(Settings, place)
    if many == "list":
        if isinstance(option, Kind):
            return f"a list, each {option.allowed}"
        return f"a list of tables, [[{_header(place)}]]"
    if many == "map":
        return f"tables with a name, [{_header(place)}.NAME]"
    return option.allowed if isinstance(option, Kind) else f"a table, [{_header(place)}]"


def _header(place: Place) -> str:
    """The table header for a place: without indices, as TOML writes it."""
    return paths.show(tuple(part for part in place if isinstance(part, str)))


def _is_secret(place: Place) -> bool:
    return isinstance(paths.at(Settings, place), Secret)
