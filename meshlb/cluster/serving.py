"""Sends this node's table to the peers that have asked for it.

Owns how far each of them is. A peer gets a part of the table only while its stream has room for
what can wait, and one part a turn, so that it delays nobody. Must not know why they ask.

Spec: protocol/spec/replication.md, "Pulls" and "Copies".
"""

from dataclasses import dataclass
from typing import Final

from meshlb.cluster.copying import Sender
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.surroundings import BulkStore, Carrier, PinReader
from meshlb.core.sticky.pin import record_from_pin
from meshlb.core.sticky.stamps import StampClock
from meshlb.model import NodeName, SessionKey
from meshlb.wire.limits import PINS_PER_MESSAGE_MAX
from meshlb.wire.messages import PullChunk, PullRequest

PULLS_SERVED_MAX: Final = 64
"""Peers that are sent the table at the same time; one more has to ask again."""


@dataclass(slots=True)
class _Served:
    """A peer that is being sent the table."""

    request: int
    after: SessionKey | None = None
    copy: Sender | None = None
    """Set where it takes packed records."""


class PullServer:
    """One per node; called within a turn, when all is committed."""

    def __init__(
        self,
        reader: PinReader,
        carrier: Carrier,
        counters: MeshCounters,
        *,
        stamps: StampClock,
        bulk: BulkStore | None = None,
    ) -> None:
        """Wire; `bulk` is the table once more, where it can be read in bulk."""
        self._reader = reader
        self._carrier = carrier
        self._counters = counters
        self._stamps = stamps
        self._bulk = bulk
        self._served: dict[NodeName, _Served] = {}

    def closed(self, peer: NodeName) -> None:
        """The stream to `peer` is gone."""
        self._served.pop(peer, None)

    def asked(self, peer: NodeName, request: PullRequest) -> None:
        """`peer` wants the table; `serve` sends it as there is room."""
        if peer in self._served or len(self._served) < PULLS_SERVED_MAX:
            served = self._served[peer] = _Served(request.request)
            if request.packed and self._bulk is not None:
                served.copy = Sender(self._bulk, request.request)
            self._counters.pulls_served += 1

    def serve(self, *, table_now: float) -> bool:
        """Send one part to each peer that wants the table and has room.

        Returns:
            True where there is more to send at once.
        """
        has_more = False
        for peer, served in list(self._served.items()):
            if self._carrier.takes_more(peer):
                send = self._send_chunk if served.copy is None else self._send_run
                is_done = send(peer, served, table_now)
                if is_done:
                    del self._served[peer]
                has_more |= not is_done
        return has_more

    def _send_chunk(self, peer: NodeName, served: _Served, now: float) -> bool:
        page = self._reader.scan(served.after, PINS_PER_MESSAGE_MAX)
        records = tuple(record_from_pin(key, pin, now=now) for key, pin in page)
        self._carrier.send(peer, PullChunk(served.request, records, last=not page))
        if page:
            served.after = page[-1][0]
        return not page

    def _send_run(self, peer: NodeName, served: _Served, now: float) -> bool:
        """True also where there is no run: the peer will ask another member, or for chunks."""
        assert served.copy is not None
        run = served.copy.next_run(stamp_ms=self._stamps.last_ms, now=now)
        if run is not None:
            self._carrier.send(peer, run)
        return run is None or run.last
