"""The disk of a simulated host, and the store that a process keeps on it.

Owns what survives: what was committed outlives the process, what was only put does not.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshlb.core.sticky.lifetime import LINGER_S_MAX
from meshlb.core.sticky.merge import TOMBSTONE_FADES_S
from meshlb.core.sticky.pin import Pin
from meshlb.model import SessionKey
from meshlb.wire.messages import BackendOverride

if TYPE_CHECKING:
    from tests.sim.mesh.process import Process


class Disk(dict[SessionKey, Pin]):
    """What survives a process: the committed records of one host, and the operators' words."""

    generation = 0
    """Counts how often all was lost."""
    words: tuple[BackendOverride, ...] = ()

    def load(self) -> tuple[BackendOverride, ...]:
        return self.words

    def save(self, words: Iterable[BackendOverride]) -> None:
        self.words = tuple(words)

    def lose(self) -> None:
        self.clear()
        self.words = ()
        self.generation += 1


class Store:
    """As `meshlb.store.LmdbPins`: reads see every put, a commit makes them survive."""

    def __init__(self, disk: Disk, process: "Process") -> None:
        self._disk = disk
        self._process = process
        self._unwritten: dict[SessionKey, Pin] = {}

    def get(self, key: SessionKey) -> Pin | None:
        return self._unwritten.get(key) or self._disk.get(key)

    def is_written(self, key: SessionKey) -> bool:
        """Whether what is known of a key would survive the process."""
        return key not in self._unwritten

    def put(self, key: SessionKey, pin: Pin) -> None:
        self._process.watcher.wrote(self._process, key, self.get(key), pin)
        self._unwritten[key] = pin

    def commit(self) -> None:
        if self._unwritten:
            self._process.touch_off("commit")
            self._disk.update(self._unwritten)
            written, self._unwritten = self._unwritten, {}
            self._process.watcher.committed(self._process, written)
            self._process.touch_off("committed")

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        records = self.records()
        keys = sorted(key for key in records if after is None or key > after)
        return [(key, records[key]) for key in keys[:limit]]

    def records(self) -> dict[SessionKey, Pin]:
        return {**self._disk, **self._unwritten}

    def sweep(self, now: float) -> None:
        """Forget what has been dead for long enough, but for tombstones that are needed still."""
        self.commit()
        for key, pin in list(self._disk.items()):
            is_fading = pin.is_tombstone and pin.expires_at <= now + TOMBSTONE_FADES_S
            if is_fading and self._process.fading(key, pin):
                continue
            if pin.expires_at <= now - (0.0 if pin.is_tombstone else LINGER_S_MAX):
                del self._disk[key]
                self._process.turns.removed(key, pin)
