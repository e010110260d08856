"""The named tables of the store: the pins, and what is kept with them.

Owns their names, the store's format, and which of two sets is in use. A set is the pins, the
counts and the sums of one stick table; there are two names for each, so that a copy of a peer's
table can be written beside the table in use and take its place in one step. The table before is
kept until it has been merged into the copy, over a restart too. Anything else that is found
beside the table in use at the start is an unfinished copy, and is dropped.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import lmdb

from meshlb.core.sticky.digest import Buckets
from meshlb.errors import UnusableStoreError
from meshlb.store.counts import PinCounts
from meshlb.store.names import Names
from meshlb.store.packing import FORMAT
from meshlb.store.sums import KeptSums
from meshlb.wire.limits import BUCKETS

FORMATS_READ: Final = (b"1", b"%d" % FORMAT)
"""Format 1 has no sums: its table is summed up once."""

_FORMAT_KEY: Final = b"format"
_SET_KEY: Final = b"set"
_BEFORE_KEY: Final = b"before"
_SETS: Final = (b"", b".2")


class TableSet:
    """One stick table on disk.

    Attributes:
        number: which of the two sets it is.
        pins: where its pins are, for LMDB.
        counts: how many of them live.
    """

    def __init__(self, number: int, pins: Any, counts: Any, sums: Any) -> None:
        """Of named tables; `load` reads what is in them."""
        self.number = number
        self.pins = pins
        self.counts = PinCounts()
        self._counts_table = counts
        self._sums_table = sums
        self._sums = KeptSums()

    def load(self, transaction: Any, names: Names) -> Iterable[int] | None:
        """Read the counts, and the sums of the buckets; None where these are not known.

        Raises:
            ValueError, IndexError, struct.error: they are damaged.
        """
        self.counts = PinCounts.load(transaction.cursor(self._counts_table), names)
        sums = self._sums.load(transaction, self._sums_table)
        is_empty = not transaction.stat(self.pins)["entries"]
        return [0] * BUCKETS if is_empty else sums

    def save(self, transaction: Any, names: Names, buckets: Buckets) -> None:
        """Write what has changed of both; call `saved` once that is committed."""
        for key, count in self.counts.unsaved(names):
            transaction.put(key, count, db=self._counts_table)
        self._sums.save(transaction, self._sums_table, buckets)

    def saved(self, buckets: Buckets) -> None:
        """All is on disk."""
        self.counts.saved()
        self._sums.saved(buckets)


def check_format(transaction: Any, meta: Any, directory: Path) -> None:
    """Note that the store in `directory` has this program's format from now on.

    Raises:
        UnusableStoreError: it has one that this program does not read.
    """
    stored = transaction.get(_FORMAT_KEY, FORMATS_READ[-1], db=meta)
    if stored not in FORMATS_READ:
        raise UnusableStoreError(
            f"the store in {directory} has format {stored.decode()} and this program reads"
            f" {FORMAT}: run the version that wrote it, or move data.mdb and lock.mdb away"
        )
    transaction.put(_FORMAT_KEY, FORMATS_READ[-1], db=meta)


def number_used(transaction: Any, meta: Any) -> int:
    """Which of the two sets is in use."""
    return int(transaction.get(_SET_KEY, b"0", db=meta)) % len(_SETS)


def pins_name(number: int) -> bytes:
    """The name of the table with the pins of a set."""
    return _names(number)[0]


def open_used(environment: Any, transaction: Any, meta: Any) -> tuple[TableSet, TableSet | None]:
    """The set in use, and the one that it has replaced if that is still needed."""
    number = number_used(transaction, meta)
    before = None
    if transaction.get(_BEFORE_KEY, db=meta) is not None:
        before = _open(environment, transaction, 1 - number)
    else:
        drop(environment, transaction, 1 - number)
    return _open(environment, transaction, number), before


def create_other(environment: Any, transaction: Any, used: TableSet) -> TableSet:
    """An empty set beside the one in use."""
    drop(environment, transaction, 1 - used.number)
    return _open(environment, transaction, 1 - used.number)


def use(transaction: Any, meta: Any, tables: TableSet) -> None:
    """What is in use from now on; the set before is kept."""
    transaction.put(_SET_KEY, b"%d" % tables.number, db=meta)
    transaction.put(_BEFORE_KEY, b"", db=meta)


def settle(environment: Any, transaction: Any, meta: Any, before: TableSet) -> None:
    """The set before is no longer needed."""
    transaction.delete(_BEFORE_KEY, db=meta)
    drop(environment, transaction, before.number)


def drop(environment: Any, transaction: Any, number: int) -> None:
    """Remove a set, if there is one."""
    for name in _names(number):
        try:
            table = environment.open_db(name, txn=transaction, create=False)
        except lmdb.NotFoundError:
            continue
        transaction.drop(table, delete=True)


def _open(environment: Any, transaction: Any, number: int) -> TableSet:
    pins, counts, sums = (environment.open_db(name, txn=transaction) for name in _names(number))
    return TableSet(number, pins, counts, sums)


def _names(number: int) -> tuple[bytes, bytes, bytes]:
    suffix = _SETS[number]
    return b"pins" + suffix, b"counts" + suffix, b"sums" + suffix
