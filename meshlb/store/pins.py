"""The pins of this node in LMDB: warm after a restart, and shared with reading processes.

Owns the writes that are not committed yet, and what belongs together in one commit: pins, counts
of live pins, and the sums of the buckets. It keeps whatever record it is given: which of two pins
stays is the business of `core.sticky`.

Reads see every `put` at once. `commit` makes them durable against the death of the process (see
`environment`) and is called once per batch of events, before anything about them leaves the node.

When the disk is full the node goes on from memory: reads and writes still work, `degraded` says
why, the log says so loudly, and `commit` tries again from time to time.

A copy of a peer's table arrives beside the table in use (`incoming`) and takes its place. The table
before is kept, over a restart too, until `settle` says that all of it was looked at (`replaced`).

One thread only; `sync` may be called in another one.
"""

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from meshlb.core.sticky.digest import Buckets
from meshlb.core.sticky.pin import MS_PER_S, Pin
from meshlb.errors import StoreError
from meshlb.model import SessionKey
from meshlb.store import tables
from meshlb.store.bulk import Run, cut
from meshlb.store.counts import BackendId
from meshlb.store.environment import MAP_BYTES_FIRST, Environment
from meshlb.store.hot import HotPins
from meshlb.store.incoming import Incoming
from meshlb.store.names import Names
from meshlb.store.packing import adds_nothing, is_retired, pack, unpack
from meshlb.store.sweep import SWEEP_PINS_MAX, Swept, look_at
from meshlb.store.unwritten import Unwritten
from meshlb.store.vetting import Owner, damaged
from meshlb.wire.limits import RUN_PINS_MAX

UNWRITTEN_PINS_MAX = 262_144
"""What a node holds in memory while it cannot write; beyond, the oldest are forgotten."""

RETRY_S = 5.0
"""How often a store that cannot be written is tried again."""

_CONTACT_KEY = b"contact"

_log = structlog.get_logger(__name__)


class LmdbPins:
    """A `core.sticky.replica.PinStore` that lasts.

    Attributes:
        degraded: why pins are not being written; None while all is well.
        forgotten: pins dropped from memory because they could not be written.
        on_fading: told of a tombstone that has little time left; True where it got more.
        on_provisional: told of a live pin that is not agreed on, whenever a sweep meets it.
        names, buckets: the numbers of names; the sums of the table, told by whoever puts a record.
        environment: where it lives, for those who read it from other processes.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        owner: Owner | None = None,
        map_bytes: int = MAP_BYTES_FIRST,
    ) -> None:
        """Open or create the store of `owner` in `data_dir`.

        Raises:
            UnusableStoreError: when it is damaged or another cluster's.
            StoreError: when it cannot be opened; the message says what to do.
        """
        self.degraded: str | None = None
        self.forgotten = 0
        self.on_fading: Callable[[SessionKey, Pin], bool] = lambda key, pin: False
        self.on_provisional: Callable[[SessionKey], None] = lambda key: None
        self.buckets = Buckets()
        self.environment = Environment(data_dir, owner=owner, map_bytes=map_bytes)
        self._unwritten = Unwritten()
        self._hot = HotPins()
        self.names = Names()
        self._before: tables.TableSet | None = None
        self._is_settling = False
        self._retry_at = 0.0
        self._swept: bytes = b""
        self._is_open = True
        try:
            self.environment.write(self._open_tables)
        except StoreError:
            self.environment.close()
            raise

    def _open_tables(self, transaction: Any) -> None:
        environment = self.environment.lmdb
        meta = self._meta = environment.open_db(b"meta", txn=transaction)
        tables.check_format(transaction, meta, self.environment.directory)
        self._tables, self._before = tables.open_used(environment, transaction, meta)
        self._names_table = environment.open_db(b"names", txn=transaction)
        try:
            self.names = Names.load(transaction.cursor(self._names_table))
            self.buckets.restart(self._tables.load(transaction, self.names))
        except (ValueError, IndexError, struct.error) as error:
            raise damaged(self.environment.directory, "its names are unreadable") from error

    # Contact -----------------------------------------------------------------------------

    def last_contact(self) -> float | None:
        """Table time when this node was last known to be with the majority; None: never."""
        value = self.environment.read().get(_CONTACT_KEY, db=self._meta)
        return None if value is None else int.from_bytes(value, "little") / MS_PER_S

    def note_contact(self, now: float) -> None:
        """This node is with the majority; never raises, see `degraded`."""
        value = round(now * MS_PER_S).to_bytes(8, "little")
        self.commit()
        try:
            self._write(lambda transaction: transaction.put(_CONTACT_KEY, value, db=self._meta))
        except StoreError as error:
            self._degrade(str(error))
        else:
            self._recover()

    # Reading -----------------------------------------------------------------------------

    def get(self, key: SessionKey) -> Pin | None:
        """The record of `key`, whatever it is: a pin, an expired one, a tombstone."""
        pin = self._hot.young.get(key)
        if pin is not None or key in self._hot.absent:
            return pin
        return self._hot.get(key) or self._unwritten.get(key) or self._read(key)

    def _read(self, key: SessionKey) -> Pin | None:
        value = self._value(key)
        pin = None if value is None else self._unpack(value)
        if value is not None and pin is not None and not is_retired(value):
            self._hot.put(key, pin)
        return pin

    def _value(self, key: SessionKey) -> bytes | None:
        if key in self._hot.absent:
            return None
        value: bytes | None = self.environment.read().get(key, db=self._tables.pins)
        if value is None:
            self._hot.note_absent(key)
        return value

    def _unpack(self, value: bytes) -> Pin | None:
        try:
            return unpack(value, self.names)
        except (struct.error, IndexError):
            _log.error("a damaged pin was passed over", value=value.hex())
            return None

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        """Up to `limit` records behind `after`, in order; none at the end.

        What is there all the time of a walk is met once, what changes meanwhile may be met.
        """
        start = b"" if after is None else after
        stored = list(islice(self._stored_after(start), limit))
        unpacked = ((SessionKey(key), self._unpack(value)) for key, value in stored)
        found = {key: pin for key, pin in unpacked if pin is not None}
        upto = stored[-1][0] if len(stored) == limit else None
        found.update(islice(self._unwritten.between(start, upto), limit))
        return sorted(found.items())[:limit]

    def _stored_after(self, start: bytes, table: Any = None) -> Iterator[tuple[bytes, bytes]]:
        """What is on disk behind a key, in order."""
        cursor = self.environment.read().cursor(table or self._tables.pins)
        is_there = cursor.set_range(start)
        if is_there and start and cursor.key() == start:
            is_there = cursor.next()
        stored: Iterator[tuple[bytes, bytes]] = cursor.iternext() if is_there else iter(())
        return stored

    def __len__(self) -> int:
        """Live pins: no tombstones, nothing that the sweep has found expired."""
        return len(self._tables.counts)

    def counts(self) -> dict[BackendId, int]:
        """Live pins for each backend."""
        return self._tables.counts.all()

    @property
    def unwritten(self) -> int:
        """Records that are in memory alone."""
        return len(self._unwritten)

    # Writing -----------------------------------------------------------------------------

    def put(self, key: SessionKey, pin: Pin) -> None:
        """Keep `pin` as the record of `key`; seen at once, durable after `commit`."""
        known = None if key in self._hot.absent else self._counted(key)
        if known is None or known.backend != pin.backend or known.pool != pin.pool:
            if known is not None:
                self._tables.counts.change(known, -1)
            self._tables.counts.change(pin, 1)
        self._unwritten.put(key, pin)
        self._hot.put(key, pin)

    def _counted(self, key: SessionKey) -> Pin | None:
        """The record of `key`, unless it has expired and is no longer counted."""
        pin = self._hot.get(key) or self._unwritten.get(key)
        if pin is None and (value := self._value(key)) is not None:
            pin = self._unpack(value)
            return None if pin is None or is_retired(value) else pin
        return pin

    def commit(self) -> None:
        """Make every `put` so far durable; never raises, see `degraded`."""
        if not self._unwritten and self._tables.counts.is_saved and not self._is_settling:
            return
        if self.degraded is not None and time.monotonic() < self._retry_at:
            self._bound_memory()
            return
        try:
            values = sorted((key, pack(pin, self.names)) for key, pin in self._unwritten.items())
            self._write_pins(lambda transaction: self._put_all(transaction, values))
        except StoreError as error:
            self._degrade(str(error))
            return
        self._unwritten.clear()
        self._recover()

    def _write(self, action: Any) -> Any:
        """Run a write transaction, with the names that have to be there first."""

        def write(transaction: Any) -> Any:
            result = action(transaction)
            self.names.save(transaction, self._names_table)
            return result

        result = self.environment.write(write)
        self.names.saved()
        return result

    def _write_pins(self, action: Any) -> None:
        self._write(action)
        self._tables.saved(self.buckets)
        if self._is_settling:
            self._before, self._is_settling = None, False

    def _put_all(self, transaction: Any, values: list[tuple[SessionKey, bytes]]) -> None:
        self._tables.save(transaction, self.names, self.buckets)
        transaction.cursor(self._tables.pins).putmulti(values)
        if self._is_settling and self._before is not None:
            tables.settle(self.environment.lmdb, transaction, self._meta, self._before)

    def _degrade(self, reason: str) -> None:
        if self.degraded is None:
            _log.error("the stick table is in memory alone: lost if this node stops", why=reason)
        self.degraded = reason
        self._retry_at = time.monotonic() + RETRY_S
        self._bound_memory()

    def _recover(self) -> None:
        if self.degraded is not None and not self._unwritten:
            _log.warning("the stick table is written again", forgotten=self.forgotten)
            self.degraded = None

    def _bound_memory(self) -> None:
        excess = len(self._unwritten) - UNWRITTEN_PINS_MAX
        for key, pin in self._unwritten.forget_oldest(excess):
            self._hot.drop(key)
            self._tables.counts.change(pin, -1)
            self.forgotten += 1
            self.buckets.replace(key, pin, self.get(key))

    # Copies ------------------------------------------------------------------------------

    def cut_run(self, after: SessionKey | None) -> Run | None:
        """The records behind a key; None where some of the table is in memory only."""
        if self._unwritten:
            return None
        behind = self._stored_after(b"" if after is None else after)
        stored = list(islice(behind, RUN_PINS_MAX))
        return cut(stored, is_end=len(stored) < RUN_PINS_MAX)

    def incoming(self) -> Incoming:
        """Make room for a copy of a peer's table beside this one.

        Raises:
            StoreError: when the disk is full or fails.
        """
        assert self._before is None
        environment, used, names = self.environment.lmdb, self._tables, self.names
        return Incoming(environment, used=used, names=names, write=self._write, adopt=self._adopt)

    def _adopt(self, copy: Incoming, sums: Sequence[int] | None) -> None:
        """Use the copy in the place of this table, which `replaced` still reads until `settle`."""
        self.commit()
        if self._unwritten:
            raise StoreError("what is in memory only cannot be replaced")

        def use(transaction: Any) -> None:
            tables.use(transaction, self._meta, copy.tables)
            copy.tables.save(transaction, self.names, Buckets(sums))

        self._write(use)
        self.buckets.restart(sums)
        self._before, self._tables = self._tables, copy.tables
        self._tables.saved(self.buckets)
        self._hot, self._swept = HotPins(), b""

    @property
    def has_replaced(self) -> bool:
        """True from the use of a copy until `settle`."""
        return self._before is not None

    def replaced(
        self, after: SessionKey | None, limit: int
    ) -> tuple[list[tuple[SessionKey, Pin]], SessionKey | None]:
        """Of the next `limit` replaced records those that may add to the copy; where to go on."""
        assert self._before is not None
        behind = self._stored_after(b"" if after is None else after, self._before.pins)
        stored = list(islice(behind, limit))
        found = [
            (SessionKey(key), pin)
            for key, value in stored
            if not adds_nothing(value, self._value(SessionKey(key)))
            and (pin := self._unpack(value)) is not None
        ]
        return found, SessionKey(stored[-1][0]) if len(stored) == limit else None

    def settle(self) -> None:
        """The table that was replaced is of no more use."""
        self._is_settling = self._before is not None
        self.commit()

    # Sweeping ----------------------------------------------------------------------------

    def sweep(self, now: float, limit: int = SWEEP_PINS_MAX) -> int:
        """Look at the next `limit` records; how many of them were removed or retired."""
        self.commit()
        if self.degraded is not None:
            return 0
        stored = list(islice(self._stored_after(self._swept), limit))
        dead = look_at(stored, prolongs=self._prolongs, now=now)
        went_upto = stored[-1][0] if len(stored) == limit else b""
        self._swept = went_upto if dead.stopped_after is None else dead.stopped_after
        for key in dead.provisional:
            self.on_provisional(key)
        self.commit()  # sums and pins belong together, also those of what was prolonged
        if dead and self.degraded is None:
            self._bury(dead)
        return len(dead)

    def _prolongs(self, key: SessionKey) -> bool:
        stone = self.get(key)
        return stone is not None and stone.is_tombstone and self.on_fading(key, stone)

    def _bury(self, dead: Swept) -> None:
        def bury(transaction: Any) -> None:
            self._put_all(transaction, dead.retiring)
            for key in dead.removed:
                transaction.delete(key, db=self._tables.pins)

        gone = [(key, self._unpack(value)) for key, value in dead.removed.items()]
        uncounted = [pin for value in dead.uncounted if (pin := self._unpack(value)) is not None]
        for pin in uncounted:
            self._tables.counts.change(pin, -1)
        for key, pin in gone:
            self.buckets.replace(key, pin, None)
        try:
            self._write_pins(bury)
        except StoreError as error:
            for pin in uncounted:
                self._tables.counts.change(pin, 1)
            for key, pin in gone:
                self.buckets.replace(key, None, pin)
            self._degrade(str(error))
            return
        for key in (*dead.removed, *(key for key, _ in dead.retiring)):
            self._hot.drop(key)

    # The end -----------------------------------------------------------------------------

    def sync(self) -> None:
        """Flush every commit so far to the disk; slow, so call it in a thread.

        Raises:
            StoreError: when the disk fails.
        """
        self.environment.sync()

    def close(self) -> None:
        """Commit and close; closing twice does no harm."""
        if self._is_open:
            self.commit()
            self.environment.close()
            self._is_open = False
