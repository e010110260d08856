"""Numbers for the few names that millions of pins repeat: pools, backends, claimers.

Owns the two-way map and which of its names are not yet on disk. Must not know LMDB or pins.
"""

from collections.abc import Iterable

from meshlb.errors import StoreError

NAMES_MAX = 65_535
"""Names that a store can ever hold: their numbers take two bytes in each pin."""


class Names:
    """Names by number and numbers by name; a number is never used for another name."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known`: the names on disk, in the order of their numbers."""
        self._names = list(known)
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._saved = len(self._names)

    def __getitem__(self, number: int) -> str:
        """The name of a number; IndexError if there is none."""
        return self._names[number]

    def number(self, name: str) -> int:
        """The number of a name, a new one if need be.

        Raises:
            StoreError: when all numbers are taken.
        """
        number = self._numbers.get(name)
        if number is None:
            number = len(self._names)
            if number >= NAMES_MAX:
                raise StoreError(
                    f"the store holds {NAMES_MAX} names of pools, backends and nodes, and no more;"
                    " start with an empty data_dir, and the pins come back from the other nodes"
                )
            self._names.append(name)
            self._numbers[name] = number
        return number

    def unsaved(self) -> list[tuple[int, str]]:
        """The names that have to be written before any pin that uses them."""
        return [(number, self._names[number]) for number in range(self._saved, len(self._names))]

    def saved(self) -> None:
        """All names are on disk."""
        self._saved = len(self._names)
