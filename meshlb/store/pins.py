"""The pins of this node in LMDB: warm after a restart, and shared with reading processes.

Owns the tables, the writes that are not committed yet, and the counts of live pins. It keeps
whatever record it is given: which of two pins stays is the business of `core.sticky`.

Reads see every `put` at once. `commit` makes them durable against the death of the process (see
`environment`) and is called once per batch of events, before anything about them leaves the node.

When the disk is full the node goes on from memory: reads and writes still work, `degraded` says
why, the log says so loudly, and `commit` tries again from time to time.

One thread only; `sync` may be called in another one.
"""

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from meshlb.core.sticky.lifetime import LINGER_S_MAX
from meshlb.core.sticky.merge import TOMBSTONE_FADES_S
from meshlb.core.sticky.pin import MS_PER_S, Pin
from meshlb.errors import StoreError, UnusableStoreError
from meshlb.model import SessionKey
from meshlb.store.counts import BackendId, PinCounts
from meshlb.store.environment import MAP_BYTES_FIRST, Environment
from meshlb.store.hot import HotPins
from meshlb.store.names import Names
from meshlb.store.packing import (
    FORMAT,
    expiry_ms,
    is_retired,
    is_tombstone,
    is_whole,
    pack,
    retired,
    unpack,
)
from meshlb.store.vetting import Owner, damaged

UNWRITTEN_PINS_MAX = 262_144
"""What a node holds in memory while it cannot write; beyond, the oldest are forgotten."""

RETRY_S = 5.0
"""How often a store that cannot be written is tried again."""

SWEEP_PINS_MAX = 2_000
"""Records that one step of the sweep looks at: about a millisecond."""

SWEEP_DEAD_MAX = 1_000
"""Dead ones after which a step ends early: each costs some microseconds more."""

_FORMAT_KEY = b"format"
_CONTACT_KEY = b"contact"

_log = structlog.get_logger(__name__)


class LmdbPins:
    """A `core.sticky.replica.PinStore` that lasts.

    Attributes:
        degraded: why pins are not being written; None while all is well.
        forgotten: pins dropped from memory because they could not be written.
        on_removed: told of each record that was dropped.
        on_fading: told of each tombstone that has little time left; True where it got more.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        owner: Owner | None = None,
        map_bytes: int = MAP_BYTES_FIRST,
    ) -> None:
        """Open or create the store of `owner` in `data_dir`; None: in a temporary directory.

        Raises:
            UnusableStoreError: when it is damaged or another cluster's.
            StoreError: when it cannot be opened; the message says what to do.
        """
        self.degraded: str | None = None
        self.forgotten = 0
        self.on_removed: Callable[[SessionKey, Pin], None] = lambda key, pin: None
        self.on_fading: Callable[[SessionKey, Pin], bool] = lambda key, pin: False
        self._environment = Environment(data_dir, owner=owner, map_bytes=map_bytes)
        self._unwritten: dict[SessionKey, Pin] = {}
        self._hot = HotPins()
        self._names = Names()
        self._counts = PinCounts()
        self._retry_at = 0.0
        self._swept: bytes = b""
        self._reader: Any = None
        self._is_open = True
        try:
            self._environment.write(self._open_tables)
        except StoreError:
            self.close()
            raise

    def _open_tables(self, transaction: Any) -> None:
        open_table = self._environment.lmdb.open_db
        meta = self._meta = open_table(b"meta", txn=transaction)
        stored_format = transaction.get(_FORMAT_KEY, db=meta)
        if stored_format is None:
            transaction.put(_FORMAT_KEY, b"%d" % FORMAT, db=meta)
        elif stored_format != b"%d" % FORMAT:
            raise UnusableStoreError(
                f"the store in {self._environment.directory} has format {stored_format.decode()}"
                f" and this program reads {FORMAT}: run the version that wrote it, or move data.mdb"
                " and lock.mdb away"
            )
        self._pins = open_table(b"pins", txn=transaction)
        self._names_table = open_table(b"names", txn=transaction)
        self._counts_table = open_table(b"counts", txn=transaction)
        try:
            names = [name.decode() for _, name in transaction.cursor(self._names_table)]
            self._names = Names(names)
            self._counts = PinCounts.load(transaction.cursor(self._counts_table), self._names)
        except (UnicodeDecodeError, ValueError, IndexError) as error:
            raise damaged(self._environment.directory, "its names are unreadable") from error

    # Contact -----------------------------------------------------------------------------

    def last_contact(self) -> float | None:
        """Table time when this node was last known to be with the majority; None: never."""
        value = self._current_reader().get(_CONTACT_KEY, db=self._meta)
        return None if value is None else int.from_bytes(value, "little") / MS_PER_S

    def note_contact(self, now: float) -> None:
        """This node is with the majority; never raises, see `degraded`."""
        value = round(now * MS_PER_S).to_bytes(8, "little")
        self.commit()

        def note(transaction: Any) -> None:
            self._put_all(transaction, [])
            transaction.put(_CONTACT_KEY, value, db=self._meta)

        try:
            self._write(note)
        except StoreError as error:
            self._degrade(str(error))
        else:
            self._recover()

    # Reading -----------------------------------------------------------------------------

    def get(self, key: SessionKey) -> Pin | None:
        """The record of `key`, whatever it is: a pin, an expired one, a tombstone."""
        return self._hot.get(key) or self._unwritten.get(key) or self._read(key)

    def _read(self, key: SessionKey) -> Pin | None:
        if (value := self._value(key)) is None:
            return None
        pin = self._unpack(value)
        if pin is not None and not is_retired(value):
            self._hot.put(key, pin)
        return pin

    def _value(self, key: SessionKey) -> bytes | None:
        if self._hot.lacks(key):
            return None
        value: bytes | None = self._current_reader().get(key, db=self._pins)
        if value is None:
            self._hot.note_absent(key)
        return value

    def _current_reader(self) -> Any:
        """A read transaction that sees every commit so far."""
        if self._reader is None:
            self._reader = self._environment.lmdb.begin()
        return self._reader

    def _end_reader(self) -> None:
        """An open reader keeps the writer from using the pages of what it sees anew."""
        if self._reader is not None:
            self._reader.abort()
            self._reader = None

    def _unpack(self, value: bytes) -> Pin | None:
        try:
            return unpack(value, self._names)
        except (struct.error, IndexError):
            _log.error("a damaged pin was passed over", value=value.hex())
            return None

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        """Up to `limit` records in the order of their keys, those behind `after`.

        An empty list: there are no more. What changes meanwhile may or may not be seen, but a
        record that was there before the first chunk and stays is in exactly one of them.
        """
        start = b"" if after is None else after
        stored = list(self._values_after(start, limit))
        found: dict[SessionKey, Pin] = {}
        for key, value in stored:
            pin = self._unpack(value)
            if pin is not None:
                found[SessionKey(key)] = pin
        is_last = len(stored) < limit
        for unwritten, pin in self._unwritten.items():
            if unwritten > start and (is_last or unwritten <= stored[-1][0]):
                found[unwritten] = pin
        return sorted(found.items())[:limit]

    def _values_after(self, start: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._current_reader().cursor(self._pins)
        if not cursor.set_range(start):
            return
        for key, value in cursor.iternext():
            if key == start:
                continue
            if limit <= 0:
                return
            limit -= 1
            yield key, value

    def __len__(self) -> int:
        """Live pins: no tombstones, nothing that the sweep has found expired."""
        return len(self._counts)

    def counts(self) -> dict[BackendId, int]:
        """Live pins for each backend."""
        return self._counts.all()

    @property
    def unwritten(self) -> int:
        """Records that are in memory alone."""
        return len(self._unwritten)

    # Writing -----------------------------------------------------------------------------

    def put(self, key: SessionKey, pin: Pin) -> None:
        """Keep `pin` as the record of `key`; seen at once, durable after `commit`."""
        known = self._hot.get(key) or self._unwritten.get(key) or self._counted(key)
        if known is None or known.backend != pin.backend or known.pool != pin.pool:
            if known is not None and known.backend:
                self._counts.change(known, -1)
            if pin.backend:
                self._counts.change(pin, 1)
        self._unwritten[key] = pin
        self._hot.put(key, pin)

    def _counted(self, key: SessionKey) -> Pin | None:
        """What is on disk for `key`, unless it has expired and is no longer counted."""
        pin = None if (value := self._value(key)) is None else self._unpack(value)
        return None if value is None or pin is None or is_retired(value) else pin

    def commit(self) -> None:
        """Make every `put` so far durable; never raises, see `degraded`."""
        if not self._unwritten and self._counts.is_saved:
            return
        if self.degraded is not None and time.monotonic() < self._retry_at:
            self._bound_memory()
            return
        try:
            values = sorted((key, pack(pin, self._names)) for key, pin in self._unwritten.items())
            self._write(lambda transaction: self._put_all(transaction, values))
        except StoreError as error:
            self._degrade(str(error))
            return
        self._unwritten.clear()
        self._recover()

    def _write(self, action: Any) -> None:
        self._end_reader()
        self._environment.write(action)
        self._names.saved()
        self._counts.saved()

    def _put_all(self, transaction: Any, values: list[tuple[SessionKey, bytes]]) -> None:
        for key, count in self._counts.unsaved(self._names):
            transaction.put(key, count, db=self._counts_table)
        for number, name in self._names.unsaved():
            transaction.put(number.to_bytes(2, "big"), name.encode(), db=self._names_table)
        transaction.cursor(self._pins).putmulti(values)

    def _degrade(self, reason: str) -> None:
        if self.degraded is None:
            _log.error(
                "the stick table is in memory alone, and lost if this node stops", why=reason
            )
        self.degraded = reason
        self._retry_at = time.monotonic() + RETRY_S
        self._bound_memory()

    def _recover(self) -> None:
        if self.degraded is not None and not self._unwritten:
            _log.warning("the stick table is written again", forgotten=self.forgotten)
            self.degraded = None

    def _bound_memory(self) -> None:
        excess = len(self._unwritten) - UNWRITTEN_PINS_MAX
        for key in list(self._unwritten)[: max(0, excess)]:
            pin = self._unwritten.pop(key)
            self._hot.drop(key)
            if pin.backend:
                self._counts.change(pin, -1)
            self.forgotten += 1
            self.on_removed(key, pin)

    # Sweeping ----------------------------------------------------------------------------

    def sweep(self, now: float, limit: int = SWEEP_PINS_MAX) -> int:
        """Look at the next `limit` records, and remove what has been dead for long enough.

        An expired pin is no longer counted, and removed once it lingers no more; a tombstone is
        removed when its grace is over. Returns how many were removed or retired.
        """
        self.commit()
        if self.degraded is not None:
            return 0
        now_ms = round(now * MS_PER_S)
        gone_ms = round((now - LINGER_S_MAX) * MS_PER_S)
        removed: dict[SessionKey, bytes] = {}
        retiring: list[tuple[SessionKey, bytes]] = []
        uncounted: list[Pin] = []
        values = list(self._values_after(self._swept, limit))
        looked_at = self._swept
        self._swept = values[-1][0] if len(values) == limit else b""
        for key, value in values:
            if len(removed) + len(retiring) >= SWEEP_DEAD_MAX:
                self._swept = looked_at
                break
            looked_at = key
            if not is_whole(value):
                removed[SessionKey(key)] = value
                continue
            expired_ms = expiry_ms(value)
            if is_tombstone(value):
                if self._is_over(SessionKey(key), expired_ms, now_ms):
                    removed[SessionKey(key)] = value
                continue
            if expired_ms > now_ms:
                continue
            if not is_retired(value) and (pin := self._unpack(value)) is not None:
                uncounted.append(pin)
            if expired_ms <= gone_ms:
                removed[SessionKey(key)] = value
            elif not is_retired(value):
                retiring.append((SessionKey(key), retired(value)))
        if removed or retiring:
            self._bury(removed, retiring, uncounted)
        return len(removed) + len(retiring)

    def _is_over(self, key: SessionKey, expired_ms: int, now_ms: int) -> bool:
        """Whether a tombstone is no longer needed; one that fades is prolonged if it may be."""
        if expired_ms > now_ms + round(TOMBSTONE_FADES_S * MS_PER_S):
            return False
        stone = self.get(key)
        if stone is not None and stone.is_tombstone and self.on_fading(key, stone):
            return False
        return expired_ms <= now_ms

    def _bury(
        self,
        removed: dict[SessionKey, bytes],
        retiring: list[tuple[SessionKey, bytes]],
        uncounted: list[Pin],
    ) -> None:
        def bury(transaction: Any) -> None:
            self._put_all(transaction, retiring)
            for key in removed:
                transaction.delete(key, db=self._pins)

        for pin in uncounted:
            self._counts.change(pin, -1)
        try:
            self._write(bury)
        except StoreError as error:
            for pin in uncounted:
                self._counts.change(pin, 1)
            self._degrade(str(error))
            return
        for key in (*removed, *(key for key, _ in retiring)):
            self._hot.drop(key)
        for key, value in removed.items():
            if (gone := self._unpack(value)) is not None:
                self.on_removed(key, gone)

    # The end -----------------------------------------------------------------------------

    def sync(self) -> None:
        """Flush every commit so far to the disk; slow, so call it in a thread.

        Raises:
            StoreError: when the disk fails.
        """
        self._environment.sync()

    def close(self) -> None:
        """Commit and close; closing twice does no harm."""
        if self._is_open:
            self.commit()
            self._end_reader()
            self._environment.close()
            self._is_open = False
