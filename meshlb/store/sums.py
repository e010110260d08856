"""The sums of the buckets on disk, so that a node knows them when it starts.

Owns their form there: a base with all sums, and behind it, in order, what each commit has
changed. That makes a commit cost one small value at the end of a table, and not one in a random
place for each pin. Once as many sums were changed as there are, a new base replaces them all.
Must not know how sums are made.

Without a base nothing is known, and the table has to be summed up: a store of an older format,
or one whose sums were not known when it was written.
"""

import struct
from array import array
from typing import Any, Final

from meshlb.core.sticky.digest import Buckets
from meshlb.wire.limits import BUCKETS

SUM_BYTES: Final = 8
CHANGES_MAX: Final = BUCKETS
"""Sums that the commits since the base have changed: as much again as the base itself."""

_BASE_KEY: Final = bytes(4)
_CHANGE = struct.Struct("<HQ")


class KeptSums:
    """The sums of one table set."""

    def __init__(self) -> None:
        self._commits = 0
        self._changes = CHANGES_MAX + 1  # no base yet

    def load(self, transaction: Any, table: Any) -> "array[int] | None":
        """The sums; None where they are not known."""
        base = transaction.get(_BASE_KEY, db=table)
        if base is None or len(base) != SUM_BYTES * BUCKETS:
            return None
        sums = array("Q", base)
        self._changes = 0
        for key, changes in transaction.cursor(table):
            if key == _BASE_KEY:
                continue
            self._commits = int.from_bytes(key, "big")
            for bucket, changed in _CHANGE.iter_unpack(changes):
                sums[bucket] = changed
                self._changes += 1
        return sums

    def save(self, transaction: Any, table: Any, buckets: Buckets) -> None:
        """Write what has changed; call `saved` once that is committed."""
        if not buckets.is_whole:
            return
        if self._changes + len(buckets.changed) > CHANGES_MAX:
            transaction.drop(table, delete=False)
            transaction.put(_BASE_KEY, buckets.packed(), db=table)
        elif buckets.changed:
            changes = b"".join(
                [_CHANGE.pack(bucket, buckets.sum_of(bucket)) for bucket in buckets.changed]
            )
            key = (self._commits + 1).to_bytes(4, "big")
            transaction.put(key, changes, append=True, db=table)

    def saved(self, buckets: Buckets) -> None:
        """All is on disk."""
        if not buckets.is_whole:
            return
        if self._changes + len(buckets.changed) > CHANGES_MAX:
            self._commits = self._changes = 0
        elif buckets.changed:
            self._commits += 1
            self._changes += len(buckets.changed)
        buckets.changed.clear()
