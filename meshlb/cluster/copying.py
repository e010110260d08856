"""A table from one member to another in bulk: the sender's side, and the receiver's.

Owns how a table becomes runs, and what the receiver does once it has them all: the copy takes the
place of its own table, and what that held is merged into it. Which of two pins wins is the merge's
word. When to copy is the business of `replication`; what packed records look like, of `store`.

    receiving ──▶ the runs go to a table beside the one in use, which takes deltas as ever
    replaying ──▶ the copy is in use; what the table before holds besides is merged into it
    done      ──▶ the table before is dropped; until then it is kept, and a restart goes on here

Each step is bounded: a turn cuts one run, lands those of one frame, or replays `REPLAY_PINS`
records. All times are table time.

Spec: protocol/spec/replication.md, "Copies".
"""

from collections.abc import Callable
from typing import Final

from meshlb.cluster.surroundings import BulkStore, IncomingCopy
from meshlb.core.sticky.pin import MS_PER_S, Pin
from meshlb.model import SessionKey
from meshlb.wire.limits import BUCKETS, RUN_NAMES_MAX
from meshlb.wire.runs import Hash64, PackedEnds, PackedPins, RunName, TableRun

REPLAY_PINS: Final = 512
"""Records of the table before that one turn looks at: a millisecond, or three if all are news."""

Merge = Callable[[SessionKey, Pin, float], None]
"""Takes a record of the table before into account."""


class Sender:
    """A copy that a peer is being sent."""

    def __init__(self, store: BulkStore, request: int) -> None:
        self.request = request
        self._store = store
        self._after: SessionKey | None = None
        self._names_told = 0
        self._sums_told: int | None = 0 if store.buckets.is_whole else None
        """Buckets whose sums were told; None where they are not known."""

    def next_run(self, *, stamp_ms: int, now: float) -> TableRun | None:
        """The next part; None where there is none at present.

        The records, and the sums of the buckets that end with them, are read in one go: they
        belong together, whatever is written between two runs.
        """
        names = tuple(map(RunName, self._store.names.since(self._names_told, RUN_NAMES_MAX)))
        now_ms = round(now * MS_PER_S)
        if len(names) == RUN_NAMES_MAX:  # there may be more, and records only go behind them all
            self._names_told += len(names)
            nothing = PackedPins(b""), PackedEnds(b""), ()
            return TableRun(self.request, now_ms, stamp_ms, names, *nothing, last=False)
        run = self._store.cut_run(self._after)
        if run is None:
            return None
        self._names_told += len(names)
        self._after = run.upto
        sums = self._sums_upto(run.buckets_upto)
        is_last = run.upto is None
        return TableRun(
            self.request, now_ms, stamp_ms, names, run.records, run.ends, sums, last=is_last
        )

    def _sums_upto(self, bucket: int | None) -> tuple[Hash64, ...]:
        if bucket is None or self._sums_told is None or not self._store.buckets.is_whole:
            self._sums_told = None  # a bucket in two runs may change in between
            return ()
        told, self._sums_told = self._sums_told, bucket
        return tuple(map(self._store.buckets.sum_of, range(told, bucket)))


class Receiver:
    """A copy that this node is being sent, to take the place of its table."""

    def __init__(self, store: BulkStore, *, merge: Merge) -> None:
        """Make room for it; or go on where a copy was in use when the node stopped.

        Raises:
            StoreError: there is no room.
        """
        self._store = store
        self._merge = merge
        self._sums: list[int] = []
        self._after: SessionKey | None = None
        self._copy: IncomingCopy | None = None
        self.is_replaying = store.has_replaced
        """All runs are here, and the copy is in use."""
        if not self.is_replaying:
            self._copy = store.incoming()

    def take(self, run: TableRun, now: float) -> None:
        """Take a run in; with the last one the copy is in use, and `replay` has work.

        Raises:
            WireError, StoreError: the copy comes to nothing, and the table in use is as it was.
        """
        assert self._copy is not None
        self._copy.add(run, now)
        self._sums += run.sums
        if run.last:
            self._adopt(self._copy)

    def _adopt(self, copy: IncomingCopy) -> None:
        copy.use(self._sums if len(self._sums) == BUCKETS else None)
        self._copy = None
        self.is_replaying = True

    def replay(self, now: float) -> bool:
        """Merge some records of the table before; True once that is done."""
        records, self._after = self._store.replaced(self._after, REPLAY_PINS)
        for key, pin in records:
            self._merge(key, pin, now)
        if self._after is None:
            self._store.settle()
        return self._after is None

    def abandon(self) -> None:
        """The copy comes to nothing, unless it is in use."""
        if self._copy is not None:
            self._copy.abandon()
            self._copy = None
