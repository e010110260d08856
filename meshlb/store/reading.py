"""The pins of a running node, read by another process: no locks, no copies, no word to the node.

Owns a read-only view of the environment that `LmdbPins` writes. It sees whatever is committed, so
what that process has not written yet is not here. Nothing is held open between two look-ups: a
reader that sleeps, or is stopped, must not keep the writer from using old pages anew.

What was decoded is remembered together with its bytes, and for as long as `changes` gives the same
number not even these are read. Whoever commits has to count before anybody is told of the commit.

One thread only. Must not know what the pins are for.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import lmdb

from meshlb.core.sticky.pin import Pin
from meshlb.errors import StoreError
from meshlb.model import SessionKey
from meshlb.store import tables
from meshlb.store.environment import MAP_BYTES_FIRST, TABLES_MAX
from meshlb.store.names import Names
from meshlb.store.packing import unpack

REMEMBERED_PINS_MAX: Final = 32_768
"""In each of two generations: what is used within one stays for the next."""


class _Seen:
    """A record as it was last read."""

    __slots__ = ("change", "pin", "value")

    def __init__(self, change: int, value: bytes, pin: Pin) -> None:
        self.change = change
        self.value = value
        self.pin = pin


class PinReader:
    """Reads the store in `directory` for as long as it is open."""

    def __init__(
        self,
        directory: Path,
        *,
        changes: Callable[[], int] | None = None,
        remembered_max: int = REMEMBERED_PINS_MAX,
    ) -> None:
        """Open the store of a node that runs, or has run.

        Args:
            directory: where it is.
            changes: counts the writer's commits; None: nobody does, and each look-up reads.
            remembered_max: records remembered in each of two generations.

        Raises:
            StoreError: there is no such store, or it cannot be read.
        """
        self._changes = changes
        self._remembered_max = remembered_max
        self._young: dict[SessionKey, _Seen] = {}
        self._old: dict[SessionKey, _Seen] = {}
        self._names = Names()
        self._pins: dict[int, Any] = {}
        try:
            self._lmdb = lmdb.open(
                str(directory),
                map_size=MAP_BYTES_FIRST,
                max_dbs=TABLES_MAX,
                readonly=True,
                create=False,
                readahead=False,
            )
            self._meta = self._lmdb.open_db(b"meta", create=False)
            self._names_table = self._lmdb.open_db(b"names", create=False)
        except lmdb.Error as error:
            raise StoreError(f"the store in {directory} cannot be read: {error}") from error

    def get(self, key: SessionKey) -> Pin | None:
        """The record of `key`, whatever it is: a pin, an expired one, a tombstone.

        Raises:
            StoreError: the store cannot be read.
        """
        change = -1 if self._changes is None else self._changes()
        seen = self._young.get(key) or self._old.get(key)
        if seen is not None and seen.change == change >= 0:
            return seen.pin
        value = self._read(key)
        if value is None:
            return None
        if seen is not None and seen.value == value:
            seen.change = change
            return seen.pin
        pin = self._unpack(value)
        if pin is not None:
            self._remember(key, _Seen(change, value, pin))
        return pin

    def close(self) -> None:
        """Close the view; the store stays as it is."""
        self._lmdb.close()

    def _remember(self, key: SessionKey, seen: _Seen) -> None:
        if len(self._young) >= self._remembered_max:
            self._young, self._old = {}, self._young
        self._young[key] = seen

    def _read(self, key: SessionKey) -> bytes | None:
        try:
            transaction = self._begin()
            try:
                number = tables.number_used(transaction, self._meta)
                table = self._pins.get(number)
                if table is not None:
                    value: bytes | None = transaction.get(key, db=table)
                    return value
            finally:
                transaction.abort()
            # A copy has taken the place of the table, and has to be opened outside.
            self._pins[number] = self._lmdb.open_db(tables.pins_name(number), create=False)
        except lmdb.NotFoundError:
            return None  # It has been dropped meanwhile; the next look-up finds the one in use.
        except lmdb.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error
        return self._read(key)

    def _begin(self) -> Any:
        try:
            return self._lmdb.begin()
        except lmdb.MapResizedError:
            self._lmdb.set_mapsize(0)  # As large as the writer has made it.
            return self._lmdb.begin()

    def _unpack(self, value: bytes) -> Pin | None:
        try:
            return unpack(value, self._names)
        except IndexError:
            self._names = self._load_names()
        except struct.error:
            return None
        try:
            return unpack(value, self._names)
        except IndexError:
            return None

    def _load_names(self) -> Names:
        transaction = self._begin()
        try:
            return Names.load(transaction.cursor(self._names_table))
        finally:
            transaction.abort()
