"""Finds what replication has missed: digests each second, and tables compared by hash.

Owns when to send digests and with whom to compare, and what this node can say about each peer: in
sync as of then, so many keys differ. How two tables are compared is `comparison`. Must not know
sockets or members.

All methods are called within a turn; all times are table time.

Spec: protocol/spec/repair.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from meshlb.cluster.comparison import SCAN_PINS, Asked, Asker, Server
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.replication import Replication
from meshlb.cluster.surroundings import Carrier, PinReader
from meshlb.core.sticky.digest import DigestedStore
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.vector import Vector
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.limits import POSITIONS_PER_MESSAGE_MAX
from meshlb.wire.messages import (
    BucketHashes,
    BucketKeys,
    BucketPins,
    BucketsDiffering,
    Digest,
    Position,
)

DIGEST_EVERY_S: Final = 1.0
DIGEST_PEERS_MAX: Final = 3
"""Peers that get a digest each time, in turn."""

COMPARE_EVERY_S: Final = 30.0
"""How often this node compares its table with the peer that it knows the least about."""

WORK_EVERY_S: Final = 0.005
"""How often a comparison goes on while it is under way."""

HASTE_EVERY_S: Final = 0.2
"""How often a peer gets a digest while new pins wait until its table has been compared."""

HASTE_S_MAX: Final = 10.0
"""For so long new pins wait for that, and then no longer: the peer may never answer."""

COUNT_EVERY_S: Final = 0.025
"""How often a part of this node's own table is summed up after its start: nobody waits for it."""

_log = structlog.get_logger("meshlb.cluster")

Page = list[tuple[SessionKey, Pin]]
"""Records in the order of their keys."""

RepairWord = Digest | BucketHashes | BucketsDiffering | BucketKeys | BucketPins


@dataclass(frozen=True, slots=True)
class Sync:
    """How this node's table and a peer's compared the last time."""

    as_of: float
    """Table time."""
    differing: int
    """Keys; they have been mended since."""


class Repair:
    """One per node."""

    def __init__(
        self,
        *,
        me: NodeName,
        store: DigestedStore,
        reader: PinReader,
        carrier: Carrier,
        replication: Replication,
        counters: MeshCounters,
        on_counted: Callable[[Page], None],
    ) -> None:
        """Wire; `on_counted` is shown each record that was in the table at the start."""
        self._me = me
        self._on_counted = on_counted
        self._buckets = store.buckets
        self._reader = reader
        self._carrier = carrier
        self._replication = replication
        self._counters = counters
        self._vector = Vector()
        self._asker = Asker(
            store=store,
            reader=reader,
            carrier=carrier,
            replication=replication,
            counters=counters,
            on_done=self._asked_all,
        )
        self._server = Server(store=store, reader=reader, carrier=carrier, on_done=self._served_all)
        self._peers: dict[NodeName, dict[NodeName, Position]] = {}
        """Linked peers, the next for a digest first, and what each was told of our positions."""
        self._claimed: dict[NodeName, tuple[BootId, int]] = {}
        """Where the log of each peer ends, by its latest digest."""
        self._behind: set[NodeName] = set()
        """Peers of whose logs this node has lost a part."""
        self._unknown: set[NodeName] = set()
        """Peers whose table was neither proved alike nor compared on the present stream."""
        self._strangers: dict[NodeName, float] = {}
        """Peers whose table must be compared soon, and until when that is waited for."""
        self._alike: set[NodeName] = set()
        """Peers whose latest digest has proved that the tables are alike."""
        self._sync: dict[NodeName, Sync] = {}
        self.on_compared: Callable[[NodeName], None] = lambda peer: None
        """Told of each peer that this node has compared its table with, from end to end."""
        self.on_met: Callable[[NodeName], None] = lambda peer: None
        """Told of each peer that holds, or is being sent, all that this node's table held."""
        self._digest_at = math.inf
        self._compare_at = math.inf
        self._work_at = math.inf
        self._haste_at = math.inf

    # Streams -----------------------------------------------------------------------------

    def opened(self, peer: NodeName, now: float) -> None:
        """There is a new stream to `peer`."""
        self.closed(peer)
        self._peers[peer] = {}
        self._unknown.add(peer)
        self._digest_at = min(self._digest_at, now + DIGEST_EVERY_S)
        self._compare_at = min(self._compare_at, now + COMPARE_EVERY_S)

    def closed(self, peer: NodeName) -> None:
        """There is no stream to `peer` any more."""
        self._peers.pop(peer, None)
        self._claimed.pop(peer, None)
        self._behind.discard(peer)
        self._alike.discard(peer)
        self._unknown.discard(peer)
        self._strangers.pop(peer, None)
        self._vector.forget(peer)
        self._asker.closed(peer)
        self._server.closed(peer)

    def sync(self) -> dict[NodeName, Sync]:
        """What is known of each linked peer that this node's table was compared with."""
        return {peer: self._sync[peer] for peer in self._peers if peer in self._sync}

    # Time --------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do; infinity while there are no peers."""
        if not self._peers:
            return math.inf
        return min(self._digest_at, self._compare_at, self._work_at, self._haste_at)

    def handle_timer(self, now: float) -> None:
        """Send digests, begin a comparison and go on with it, as is due."""
        if now >= self._work_at:
            self._work(now)
        if now >= self._haste_at:
            self._hurry(now)
        if now >= self._digest_at:
            self._digest_at = now + DIGEST_EVERY_S
            self._asker.give_up_stalled(now)
            self._server.give_up_stalled(now)
            for peer in list(self._peers)[:DIGEST_PEERS_MAX]:
                self._send_digest(peer)
            self._compare_where_behind(now)
            if not self._buckets.is_whole:
                self._work_at = min(self._work_at, now + COUNT_EVERY_S)
        if now >= self._compare_at:
            self._compare_at = now + COMPARE_EVERY_S
            self._compare_with_the_least_known(now)

    def _work(self, now: float) -> None:
        """Do a bounded part of what is to do."""
        self._work_at = math.inf
        if not self._buckets.is_whole:
            self._count()
            self._work_at = now + (WORK_EVERY_S if self._strangers else COUNT_EVERY_S)
            return
        self._server.go_on(now)
        self._asker.go_on(now)
        if self._asker.has_work or self._server.has_work:
            self._work_at = now + WORK_EVERY_S

    def _count(self) -> None:
        if self._replication.pulling_from is None and self._replication.away_since_ms is None:
            page = self._reader.scan(self._buckets.covered, SCAN_PINS)
            self._buckets.count(page)
            self._on_counted(page)

    # When to compare ---------------------------------------------------------------------

    @property
    def is_asking(self) -> bool:
        """A comparison that this node has begun is under way."""
        return self._asker.is_busy

    def hasten(self, peer: NodeName, now: float) -> None:
        """New pins wait for `on_met` of this peer: digests go to it at once, and often."""
        self._strangers[peer] = now + HASTE_S_MAX
        self._haste_at = self._work_at = now

    def _hurry(self, now: float) -> None:
        for peer, until in list(self._strangers.items()):
            if now >= until:
                _log.warning("a table was not compared in time", peer=peer)
                self._met(peer)
            else:
                self._send_digest(peer)
        is_unplaced = any(self._replication.log_end(peer) is None for peer in self._strangers)
        wait_s = WORK_EVERY_S if is_unplaced else HASTE_EVERY_S
        self._haste_at = now + wait_s if self._strangers else math.inf

    def _met(self, peer: NodeName) -> None:
        self._strangers.pop(peer, None)
        self.on_met(peer)

    def compare(self, peer: NodeName, now: float) -> None:
        """Begin a comparison with `peer`, instead of a pull."""
        self._compare(peer, now)

    def _compare(self, peer: NodeName, now: float) -> None:
        if self._replication.is_taking:
            return
        if self._asker.begin(peer, self._claimed.get(peer), self._vector.of(peer), now):
            self._work_at = now

    def _compare_where_behind(self, now: float) -> None:
        peer = min(self._behind, default=None) or self._vector.ahead(
            self._replication.positions(), linked=self._peers, me=self._me, now=now
        )
        if peer is not None:
            self._compare(peer, now)

    def _compare_with_the_least_known(self, now: float) -> None:
        never = Sync(-math.inf, 0)
        known = {peer: self._sync.get(peer, never) for peer in self._peers.keys() - self._alike}
        if known:
            self._compare(min(known, key=lambda peer: (known[peer].as_of, peer)), now)

    def _asked_all(self, asked: Asked, now: float) -> None:
        """What the peer had read before is covered now, by whatever way it came."""
        self._unknown.discard(asked.peer)
        self._sync[asked.peer] = Sync(now, asked.differing)
        self._vector.cover(asked.vector)
        if asked.claimed is not None:
            self._replication.filled(asked.peer, *asked.claimed)
            self._behind.discard(asked.peer)
        self._met(asked.peer)
        self.on_compared(asked.peer)
        for peer in self._strangers:
            if peer in self._claimed and peer in self._unknown and self._me < peer:
                self._compare(peer, now)

    def _served_all(self, peer: NodeName, differing: int, now: float) -> None:
        self._unknown.discard(peer)
        self._sync[peer] = Sync(now, differing)
        self._met(peer)

    # Digests -----------------------------------------------------------------------------

    def _send_digest(self, peer: NodeName) -> None:
        told = self._peers.pop(peer)
        self._peers[peer] = told  # to the end of the row
        log_end = self._replication.log_end(peer)
        if log_end is None:
            return  # it has not said yet where it is
        news = []
        for origin, ack in self._replication.positions().items():
            position = Position(origin, ack.boot_id, ack.seq)
            if origin != peer and told.get(origin) != position:
                news.append(position)
        del news[POSITIONS_PER_MESSAGE_MAX:]
        told.update((position.origin, position) for position in news)
        is_known = self._buckets.is_whole and not self._replication.is_taking
        total = self._buckets.total if is_known else None
        self._carrier.send(peer, Digest(*log_end, total, tuple(news)))

    def _heard_digest(self, peer: NodeName, digest: Digest, now: float) -> None:
        self._counters.digests_received += 1
        self._vector.told(peer, digest.positions)
        self._claimed[peer] = (digest.boot_id, digest.seq)
        if self._buckets.is_whole and digest.table == self._buckets.total:
            self._sync[peer] = Sync(now, 0)
            self._alike.add(peer)
            self._unknown.discard(peer)
            self._met(peer)
        else:
            self._alike.discard(peer)
            # Both may have begun with what their disks held, which their logs never tell.
            if peer in self._unknown and self._me < peer and digest.table is not None:
                self._compare(peer, now)
        read = self._replication.position(peer)
        if digest.seq > (read.seq if read.boot_id == digest.boot_id else 0):
            self._behind.add(peer)
            self._compare(peer, now)
        else:
            self._behind.discard(peer)

    # What peers say ----------------------------------------------------------------------

    def hear(self, peer: NodeName, word: RepairWord, now: float) -> None:
        """A word of a linked peer; the pins in it are merged already."""
        if peer not in self._peers:
            return
        match word:
            case Digest():
                self._heard_digest(peer, word, now)
            case BucketHashes() if self._replication.is_taking:
                """As long as this node does not know its sums: the peer asks again."""
            case BucketHashes():
                self._server.begin(peer, word, now)
                self._work_at = now
            case BucketKeys():
                self._server.answer(peer, word, now)
            case BucketsDiffering() | BucketPins():
                self._asker.hear(peer, word, now)
                if self._asker.has_work:
                    self._work_at = min(self._work_at, now)
