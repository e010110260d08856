"""The store and the streams, as replication, repair and copies see them.

Owns only the interfaces; `meshlb.store.LmdbPins` and `LinkStreams` are behind them in a node.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from meshlb.core.sticky.digest import Buckets
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.replica import PinStore
from meshlb.model import NodeName, SessionKey
from meshlb.store.bulk import Run
from meshlb.store.names import Names
from meshlb.wire.messages import Message
from meshlb.wire.runs import TableRun


class PinReader(Protocol):
    """Reads the table."""

    def get(self, key: SessionKey) -> Pin | None:
        """The record of `key`, whatever it is."""
        ...

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        """At most `limit` records with keys above `after`, in order; none at the end."""
        ...


class Carrier(Protocol):
    """The streams, as replication sees them."""

    def send(self, peer: NodeName, message: Message) -> None:
        """Queue a message on the stream to `peer`; dropped where there is none."""
        ...

    def takes_more(self, peer: NodeName) -> bool:
        """True where the stream to `peer` has room for what can wait."""
        ...


class IncomingCopy(Protocol):
    """A copy of a peer's table, beside the table in use."""

    def add(self, run: TableRun, now: float) -> None:
        """Append a run; WireError or StoreError where that cannot be."""
        ...

    def use(self, sums: Sequence[int] | None) -> None:
        """Put it in the place of the table in use; StoreError where that cannot be."""
        ...

    def abandon(self) -> None:
        """Drop what has arrived."""
        ...


class BulkStore(Protocol):
    """A store whose table can be read and replaced in bulk; see `meshlb.store.LmdbPins`."""

    @property
    def buckets(self) -> Buckets:
        """The sums of the table."""
        ...

    def cut_run(self, after: SessionKey | None) -> Run | None:
        """The records behind a key; None where that cannot be now."""
        ...

    @property
    def names(self) -> Names:
        """What the numbers in packed records stand for."""
        ...

    def incoming(self) -> IncomingCopy:
        """Make room for a copy; StoreError where there is none."""
        ...

    @property
    def has_replaced(self) -> bool:
        """A table before is there, perhaps since an earlier start."""
        ...

    def replaced(
        self, after: SessionKey | None, limit: int
    ) -> tuple[list[tuple[SessionKey, Pin]], SessionKey | None]:
        """Of the next `limit` records of the table before, those that may add to the copy.

        Returns:
            They, in the order of keys, and where to go on; None at the end.
        """
        ...

    def settle(self) -> None:
        """Drop the table before."""
        ...


class TableStore(PinStore, PinReader, Protocol):
    """The store of a member."""

    def commit(self) -> None:
        """Make all that was put since the last commit survive the process."""
        ...


class Streams(Carrier, Protocol):
    """The streams, as a turn sees them."""

    def peers(self) -> Collection[NodeName]:
        """All peers that there is a stream to."""
        ...

    def flush(self) -> None:
        """Let out what was sent since the last time; nothing of it has gone out before."""
        ...
