"""How many live pins there are for each backend, so that nobody has to count them.

Owns the numbers and which of them are not yet on disk. Must not know LMDB, nor when a pin is live.
"""

from collections.abc import Iterable, Mapping
from typing import Self

from meshlb.core.sticky.pin import Pin
from meshlb.model import BackendName, PoolName
from meshlb.store.names import Names

BackendId = tuple[PoolName, BackendName]


class PinCounts:
    """Live pins by pool and backend."""

    def __init__(self) -> None:
        self._counts: dict[BackendId, int] = {}
        self._changed: set[BackendId] = set()

    @classmethod
    def load(cls, rows: Iterable[tuple[bytes, bytes]], names: Names) -> Self:
        """The counts as `unsaved` has packed them.

        Raises:
            ValueError: a row is damaged.
            IndexError: a name is missing.
        """
        counts = cls()
        for key, count in rows:
            pool = PoolName(names[int.from_bytes(key[:2], "big")])
            backend = BackendName(names[int.from_bytes(key[2:], "big")])
            counts._counts[pool, backend] = int(count)
        return counts

    def __len__(self) -> int:
        """Live pins of all backends."""
        return sum(self._counts.values())

    def all(self) -> dict[BackendId, int]:
        """Live pins of each backend that has any."""
        return {backend: count for backend, count in self._counts.items() if count}

    def change(self, pin: Pin, by: int) -> None:
        """There are `by` more such pins; a tombstone is none."""
        if not pin.backend:
            return
        backend = (pin.pool, pin.backend)
        self._counts[backend] = self._counts.get(backend, 0) + by
        self._changed.add(backend)

    def add_numbered(self, counts: Mapping[tuple[int, int], int], names: Names) -> None:
        """There are so many more, by the numbers of their pools and backends."""
        for (pool, backend), count in counts.items():
            name = (PoolName(names[pool]), BackendName(names[backend]))
            self._counts[name] = self._counts.get(name, 0) + count
            self._changed.add(name)

    @property
    def is_saved(self) -> bool:
        """Whether all numbers are on disk."""
        return not self._changed

    def unsaved(self, names: Names) -> list[tuple[bytes, bytes]]:
        """Rows to write: the numbers that have changed since they were written."""
        return [
            (
                (names.numbers[pool] << 16 | names.numbers[backend]).to_bytes(4, "big"),
                b"%d" % self._counts[pool, backend],
            )
            for pool, backend in self._changed
        ]

    def saved(self) -> None:
        """All numbers are on disk."""
        self._changed.clear()
