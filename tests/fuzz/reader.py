"""Choices out of bytes: the fuzzer changes bytes, and a target reads from them what to do.

Bytes that have run out read as zeros, so every input means something and a shorter one means less.
"""

from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")


class Reader:
    """Reads from the front."""

    def __init__(self, given: bytes) -> None:
        self._given = given
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._given)

    def take(self, size: int) -> bytes:
        """The next bytes, fewer where there are no more."""
        taken = self._given[self._at : self._at + size]
        self._at += size
        return taken

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size).ljust(size, b"\0"), "big")

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.number() % len(choices)]

    def rest(self) -> bytes:
        return self.take(max(0, len(self._given) - self._at))
