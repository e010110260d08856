"""How this node gets what a peer's table has and its own lacks.

Owns the choice between three ways, and what it depends on:

* a *copy* takes the place of this node's table, where that is empty or out of date, and nobody
  follows it yet;
* tables that can differ in little only are *compared*;
* else the peer sends all its records in *chunks*, and each is merged.

Must not know when there is something to catch up with. All times are table time.

Spec: protocol/spec/replication.md, R21 and "Copies".
"""

from typing import Final

from meshlb.cluster.repair import Repair
from meshlb.cluster.replication import Replication
from meshlb.cluster.surroundings import PinReader
from meshlb.core.sticky.digest import Buckets
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S
from meshlb.core.sticky.pin import MS_PER_S
from meshlb.model import NodeName

AWAY_S_MAX: Final = 60.0
"""A node that was away for longer takes a whole table: uses of pins that it has missed are in no
comparison. After a short absence the next use of each pin makes up for that."""


class CatchingUp:
    """One per node."""

    def __init__(
        self, reader: PinReader, buckets: Buckets, replication: Replication, repair: Repair
    ) -> None:
        self._reader = reader
        self._buckets = buckets
        self._replication = replication
        self._repair = repair
        self._is_joining = True
        self._was_here_lately = False

    def came_back(self, away_since: float, now: float) -> None:
        """This node was last with the majority then, before it was started."""
        away_s = now - away_since
        self._was_here_lately = away_s <= AWAY_S_MAX
        if away_s > TOMBSTONE_GRACE_S:
            self._replication.away_since_ms = round(away_since * MS_PER_S)

    def synced(self) -> None:
        """This node holds the whole table from now on, and serves from it."""
        self._is_joining, self._was_here_lately = False, True

    def begin(self, peer: NodeName, *, is_synced: bool, now: float) -> None:
        """Get the table of `peer`, unless a table is on its way, or a comparison."""
        if self._replication.pulling_from is not None:
            return
        if not self._may_compare(peer, is_synced=is_synced):
            may_copy = self._is_joining and (is_synced or self._is_empty())
            self._replication.pull(peer, is_synced=is_synced, now=now, may_copy=may_copy)
        elif not self._repair.is_asking:  # else this is asked again soon
            self._repair.compare(peer, now)
            self._replication.compare(peer, is_synced=is_synced, now=now)

    def _may_compare(self, peer: NodeName, *, is_synced: bool) -> bool:
        """After a short absence, and where all have been away, as long as both tables are known."""
        is_likely_alike = self._was_here_lately or not is_synced
        return (
            is_likely_alike
            and self._buckets.is_whole
            and self._replication.away_since_ms is None
            and self._replication.may_compare(peer)
            and not self._is_empty()
        )

    def _is_empty(self) -> bool:
        return not self._reader.scan(None, 1)
