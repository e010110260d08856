"""Numbers for the few names that millions of pins repeat: pools, backends, claimers.

Owns the two-way map and which of its names are not yet on disk. Must not know pins.
"""

from collections.abc import Iterable
from typing import Any, Self

from meshlb.errors import StoreError

NAMES_MAX = 65_535
"""Names that a store can ever hold: their numbers take two bytes in each pin."""


class _Numbers(dict[str, int]):
    """The number of each name; one that has none gets the next."""

    __slots__ = ("names",)

    def __init__(self, names: list[str]) -> None:
        super().__init__((name, number) for number, name in enumerate(names))
        self.names = names

    def __missing__(self, name: str) -> int:
        number = len(self.names)
        if number >= NAMES_MAX:
            raise StoreError(
                f"the store holds {NAMES_MAX} names of pools, backends and nodes, and no more;"
                " start with an empty data_dir, and the pins come back from the other nodes"
            )
        self.names.append(name)
        self[name] = number
        return number


class Names:
    """Names by number and numbers by name; a number is never used for another name."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known`: the names on disk, in the order of their numbers."""
        self._names = list(known)
        self.numbers = _Numbers(self._names)
        """The number of a name, a new one if need be; `StoreError` when all are taken."""
        self._saved = len(self._names)

    @classmethod
    def load(cls, stored: Iterable[tuple[bytes, bytes]]) -> Self:
        """Read what `save` has written.

        Raises:
            UnicodeDecodeError: it is damaged.
        """
        return cls([name.decode() for _, name in stored])

    def __getitem__(self, number: int) -> str:
        """The name of a number; IndexError if there is none."""
        return self._names[number]

    def since(self, number: int, limit: int) -> list[str]:
        """At most `limit` names, with this number and those behind it."""
        return self._names[number : number + limit]

    def unsaved(self) -> list[tuple[int, str]]:
        """The names that have to be written before any pin that uses them."""
        return [(number, self._names[number]) for number in range(self._saved, len(self._names))]

    def save(self, transaction: Any, table: Any) -> None:
        """Write those; call `saved` once that is committed."""
        for number, name in self.unsaved():
            transaction.put(number.to_bytes(2, "big"), name.encode(), db=table)

    def saved(self) -> None:
        """All names are on disk."""
        self._saved = len(self._names)
