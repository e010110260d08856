"""Server names: as clients send them (SNI), and what answers to which.

Owns the rules of RFC 6125: names compare without regard to case, and `*.` stands for exactly one
label. Must not know what a name leads to.
"""

import re
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

NAME_BYTES_MAX: Final = 253

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"

NAME: Final = rf"{_LABEL}(?:\.{_LABEL})*"
"""A DNS name in its ASCII form, as a regular expression."""

PATTERN: Final = rf"(?:\*\.{_LABEL}\.)?{NAME}"
"""A name, or one with `*.` before at least two labels."""

T = TypeVar("T")


def is_name(name: str) -> bool:
    """Whether `name` can be a DNS name in its ASCII form."""
    return len(name) <= NAME_BYTES_MAX and re.fullmatch(NAME, name) is not None


class ServerNames(Generic[T]):
    """What answers to which name; the nearest pattern wins."""

    __slots__ = ("_exact", "_wildcards")

    def __init__(self, patterns: Mapping[str, T]) -> None:
        """Take `patterns` as in a certificate: `www.example.com` or `*.example.com`."""
        self._exact: dict[str, T] = {}
        self._wildcards: dict[str, T] = {}
        for pattern, target in patterns.items():
            if pattern.startswith("*."):
                self._wildcards[pattern[2:].lower()] = target
            else:
                self._exact[pattern.lower()] = target

    def find(self, name: str) -> T | None:
        """What answers to `name`; None where nothing does."""
        name = name.lower().removesuffix(".")
        found = self._exact.get(name)
        if found is None and self._wildcards:
            found = self._wildcards.get(name.partition(".")[2])
        return found
