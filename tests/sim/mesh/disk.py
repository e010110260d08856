"""The disk of a simulated host, and the store that a process keeps on it.

Owns what survives: what was committed outlives the process, what was only put does not.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from meshlb.core.sticky.digest import Buckets
from meshlb.core.sticky.lifetime import LINGER_S_MAX
from meshlb.core.sticky.merge import TOMBSTONE_FADES_S
from meshlb.core.sticky.pin import MS_PER_S, Pin
from meshlb.model import NodeName, SessionKey
from meshlb.store.bulk import Run, cut, land
from meshlb.store.names import Names
from meshlb.store.packing import pack, unpack
from meshlb.wire.limits import BUCKETS
from meshlb.wire.messages import BackendOverride, Rank
from meshlb.wire.runs import TableRun

if TYPE_CHECKING:
    from tests.sim.mesh.process import Process

RUN_PINS = 5
"""Records of a run: few, so that there are many, and much happens between them."""

REPLAYED = 4
"""Likewise of a step that merges what a copy has replaced."""


class Disk(dict[SessionKey, Pin]):
    """What survives a process: the committed records of one host, and the operators' words."""

    generation = 0
    """Counts how often all was lost."""
    words: tuple[BackendOverride, ...] = ()
    contact: float | None = None
    """Table time at which the process was last with the majority."""
    before: dict[SessionKey, Pin] | None = None
    """The table that a copy has replaced, until all of it was looked at."""

    def load(self) -> tuple[BackendOverride, ...]:
        return self.words

    def save(self, words: Iterable[BackendOverride]) -> None:
        self.words = tuple(words)

    def lose(self) -> None:
        self.clear()
        self.words = ()
        self.before = self.contact = None
        self.generation += 1


class Store:
    """As `meshlb.store.LmdbPins`: reads see every put, a commit makes them survive."""

    def __init__(self, disk: Disk, process: "Process") -> None:
        self._disk = disk
        self._process = process
        self._unwritten: dict[SessionKey, Pin] = {}
        self.names = Names()
        self.buckets = Buckets([0] * BUCKETS)
        for key, pin in disk.items():
            pack(pin, self.names)  # which gives its names their numbers
            self.buckets.replace(key, None, pin)

    def get(self, key: SessionKey) -> Pin | None:
        return self._unwritten.get(key) or self._disk.get(key)

    def is_written(self, key: SessionKey) -> bool:
        """Whether what is known of a key would survive the process."""
        return key not in self._unwritten

    def put(self, key: SessionKey, pin: Pin) -> None:
        self._process.watcher.wrote(self._process, key, self.get(key), pin)
        pack(pin, self.names)
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
            if pin.is_live(now) and pin.rank is Rank.PROVISIONAL:
                self._process.turns.unsettled(key)
            is_fading = pin.is_tombstone and pin.expires_at <= now + TOMBSTONE_FADES_S
            if is_fading and self._process.fading(key, pin):
                continue
            if pin.expires_at <= now - (0.0 if pin.is_tombstone else LINGER_S_MAX):
                del self._disk[key]
                self.buckets.replace(key, pin, None)

    # Copies ------------------------------------------------------------------------------

    def cut_run(self, after: SessionKey | None) -> Run | None:
        if self._unwritten:
            return None
        keys = sorted(key for key in self._disk if after is None or key > after)[:RUN_PINS]
        stored = [(bytes(key), pack(self._disk[key], self.names)) for key in keys]
        return cut(stored, is_end=len(keys) < RUN_PINS)

    def incoming(self) -> "Copy":
        assert self._disk.before is None
        return Copy(self)

    def use(self, records: dict[SessionKey, Pin], sums: Sequence[int] | None) -> None:
        """Put a copy in the place of the table, in one step."""
        self.commit()
        self._process.touch_off("copy")
        self._disk.before = dict(self._disk)
        self._disk.clear()
        self._disk.update(records)
        self.buckets.restart(sums)
        for key, pin in records.items():
            self._process.watcher.wrote(self._process, key, None, pin)
        self._process.watcher.committed(self._process, records)
        self._process.touch_off("copied")

    @property
    def has_replaced(self) -> bool:
        return self._disk.before is not None

    def replaced(
        self, after: SessionKey | None, limit: int
    ) -> tuple[list[tuple[SessionKey, Pin]], SessionKey | None]:
        before = self._disk.before
        assert before is not None
        keys = sorted(key for key in before if after is None or key > after)[:REPLAYED]
        news = [(key, before[key]) for key in keys if before[key] != self.get(key)]
        return news, keys[-1] if len(keys) == REPLAYED else None

    def settle(self) -> None:
        self.commit()
        self._disk.before = None


class Copy:
    """A copy of a peer's table while it arrives, in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers: list[int] = []
        self._claimers: list[NodeName | None] = []
        self._records: dict[SessionKey, Pin] = {}

    def add(self, run: TableRun, now: float) -> None:
        names = self._store.names
        self._numbers += [names.numbers[name] for name in run.names]
        self._claimers += [NodeName(name) for name in run.names]
        shift_ms = round(now * MS_PER_S) - run.now_ms
        landed = land(run, self._numbers, claimers=self._claimers, shift_ms=shift_ms)
        for key, value in landed.stored:
            assert not self._records or key > next(reversed(self._records))
            self._records[SessionKey(key)] = unpack(value, names)

    def use(self, sums: Sequence[int] | None) -> None:
        self._store.use(self._records, sums)

    def abandon(self) -> None:
        """Nothing of it is anywhere."""
