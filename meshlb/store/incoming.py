"""A copy of a peer's table while it arrives: written beside the table in use.

Owns the table set that it goes to, this node's numbers for the peer's names, and how far the two
clocks are apart. Must not know peers, nor when the copy is complete. Each run is one commit,
and its records are appended to the end of the copy, which fills every page: half the time and
two thirds of the space of the same records in any order.

Spec: protocol/spec/replication.md, "Copies".
"""

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from meshlb.core.sticky.pin import MS_PER_S
from meshlb.errors import StoreError, WireError
from meshlb.model import NodeName
from meshlb.store import tables
from meshlb.store.bulk import land
from meshlb.store.names import Names
from meshlb.store.tables import TableSet
from meshlb.wire.reading import is_node_name
from meshlb.wire.runs import TableRun

_log = structlog.get_logger(__name__)

Write = Callable[[Callable[[Any], Any]], Any]
"""Runs an action in a write transaction."""

Adopt = Callable[["Incoming", Sequence[int] | None], None]


class Incoming:
    """One copy; `add` its runs, then either `use` or `abandon` it."""

    def __init__(
        self, environment: Any, *, used: TableSet, names: Names, write: Write, adopt: Adopt
    ) -> None:
        """Begin; what an earlier copy has left behind is dropped.

        Args:
            environment: of LMDB.
            used: the table set beside which the copy is written.
            names: of the store.
            write: runs a write transaction.
            adopt: puts this copy in the place of what was in use.

        Raises:
            StoreError: when the disk is full or fails.
        """
        self._adopt = adopt
        self._environment = environment
        self._names = names
        self._write = write
        self._numbers: list[int] = []
        self._claimers: list[NodeName | None] = []
        self._shift_ms: int | None = None
        self.tables: TableSet = write(
            lambda transaction: tables.create_other(environment, transaction, used)
        )
        """Where the copy is."""

    def add(self, run: TableRun, now: float) -> None:
        """Append a run; `now` is table time.

        Raises:
            WireError: the run is not as it should be; nothing of it is stored.
            StoreError: when the disk is full or fails; likewise.
        """
        for name in run.names:
            self._numbers.append(self._names.numbers[name])
            self._claimers.append(NodeName(name) if is_node_name(name) else None)
        # Of the way here, which is in it, the least counts: later runs have waited in queues.
        shift_ms = round(now * MS_PER_S) - run.now_ms
        if self._shift_ms is None or shift_ms < self._shift_ms:
            self._shift_ms = shift_ms
        landed = land(run, self._numbers, claimers=self._claimers, shift_ms=self._shift_ms)

        def append(transaction: Any) -> None:
            cursor = transaction.cursor(self.tables.pins)
            _, added = cursor.putmulti(landed.stored, append=True)
            if added != len(landed.stored):
                raise WireError("packed records are not in ascending order of keys")

        self._write(append)
        self.tables.counts.add_numbered(landed.counts, self._names)

    def use(self, sums: Sequence[int] | None) -> None:
        """Put the copy in the place of the table in use.

        Args:
            sums: of its buckets; None where they are not known.

        Raises:
            StoreError: the table in use cannot be written; nothing has changed.
        """
        self._adopt(self, sums)

    def abandon(self) -> None:
        """Drop what has arrived; where the disk does not take that, the next start does it."""
        try:
            self._write(
                lambda transaction: tables.drop(self._environment, transaction, self.tables.number)
            )
        except StoreError as error:
            _log.warning("an unfinished copy is left on the disk", reason=str(error))
