"""A comparison of two tables by hash, from both sides.

Owns `Asker`, the comparison that this node has begun, and `Server`, those that peers have begun
with it. Which of two pins wins is the merge's word; what this node holds and the peer lacks goes
into the replication log, so that it reaches everybody. When to compare is `repair`'s business.

The asker's side:

    BucketHashes ──▶ the 4,096 sums
                 ◀── BucketsDiffering: those that differ, with the hashes of live records alone
    BucketKeys   ──▶ key and hash of each live record in a range that differs still
                 ◀── BucketPins: the pins that differ or are lacking here, and the keys wanted

Each step is bounded: a turn reads about `SCAN_PINS` records, and a peer that has no room in its
stream waits. All times are table time.

Spec: protocol/spec/repair.md, "Comparisons".
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.replication import Replication
from meshlb.cluster.surroundings import Carrier, PinReader
from meshlb.core.sticky.digest import (
    DigestedStore,
    before,
    bucket_of,
    bucket_range,
    live_hash,
    record_hash,
)
from meshlb.core.sticky.pin import Pin, record_from_pin
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.limits import BUCKETS, KEYS_PER_MESSAGE_MAX, PINS_PER_MESSAGE_MAX
from meshlb.wire.messages import (
    BucketHashes,
    BucketKeys,
    BucketNumber,
    BucketPins,
    BucketsDiffering,
    KeyHash,
    PinRecord,
)
from meshlb.wire.runs import Hash64

COMPARE_STALL_S: Final = 10.0
"""A comparison without a word of the peer for so long is given up."""

SERVED_MAX: Final = 8
"""Peers that compare with this node at the same time; one more is not answered, and comes back."""

RANGES_OPEN_MAX: Final = 16
"""Ranges that the peer has not answered yet."""

SCAN_PINS: Final = 512
"""Records that one turn reads for repair: one or two milliseconds."""

PAGE_PINS: Final = 32
"""A first guess at what a bucket holds."""

Positions = dict[NodeName, tuple[BootId, int]]
Records = list[tuple[SessionKey, Pin]]


@dataclass(slots=True)
class Asked:
    """The comparison that this node has begun."""

    peer: NodeName
    request: int
    claimed: tuple[BootId, int] | None
    """Where the peer's log ended when it began: covered at the end."""
    vector: Positions
    """What the peer had merged of other logs: likewise."""
    heard_at: float
    differing: int = 0
    """Keys so far."""
    told: int = 0
    """Buckets that the peer has named; it cannot have more than there are."""
    todo: deque[tuple[BucketNumber, int]] = field(default_factory=deque)
    has_all: bool = False
    has_asked_all: bool = False
    ranges_open: int = 0


class Asker:
    """At most one comparison at a time."""

    def __init__(
        self,
        *,
        store: DigestedStore,
        reader: PinReader,
        carrier: Carrier,
        replication: Replication,
        counters: MeshCounters,
        on_done: Callable[[Asked, float], None],
    ) -> None:
        """Wire; `on_done` is told of each comparison that came to its end, and when."""
        self._store = store
        self._reader = reader
        self._carrier = carrier
        self._replication = replication
        self._counters = counters
        self._on_done = on_done
        self._asked: Asked | None = None
        self._requests = 0

    @property
    def is_busy(self) -> bool:
        """True while a comparison is under way."""
        return self._asked is not None

    @property
    def has_work(self) -> bool:
        """True where `go_on` has something to do; else it is the peer's turn."""
        asked = self._asked
        return asked is not None and bool(asked.todo) and asked.ranges_open < RANGES_OPEN_MAX

    def begin(
        self, peer: NodeName, claimed: tuple[BootId, int] | None, vector: Positions, now: float
    ) -> bool:
        """Compare with `peer`; False where that has to wait."""
        if self._asked is not None or not self._store.buckets.is_whole:
            return False
        self._requests += 1
        self._asked = Asked(peer, self._requests, claimed, vector, now)
        self._counters.comparisons += 1
        self._carrier.send(peer, BucketHashes(self._requests, self._store.buckets.sums()))
        return True

    def closed(self, peer: NodeName) -> None:
        """There is no stream to `peer` any more."""
        if self._asked is not None and self._asked.peer == peer:
            self._asked = None

    def give_up_stalled(self, now: float) -> None:
        """End a comparison whose peer is silent."""
        if self._asked is not None and now - self._asked.heard_at > COMPARE_STALL_S:
            self._asked = None

    def hear(self, peer: NodeName, word: BucketsDiffering | BucketPins, now: float) -> None:
        """An answer; the pins in it are merged already."""
        asked = self._asked
        if asked is None or (asked.peer, asked.request) != (peer, word.request):
            return
        asked.heard_at = now
        if isinstance(word, BucketsDiffering):
            room = BUCKETS - asked.told
            asked.todo.extend(islice(zip(word.buckets, word.hashes, strict=False), room))
            asked.told += min(len(word.buckets), room)
            asked.has_all |= word.last
        else:
            self._take_pins(asked, word)
        self._finish_if_done(asked, now)

    def go_on(self, now: float) -> None:
        """Send the keys of the next buckets that differ still."""
        asked = self._asked
        if asked is None:
            return
        read = 0
        while asked.todo and read < SCAN_PINS and asked.ranges_open < RANGES_OPEN_MAX:
            if not self._carrier.takes_more(asked.peer):
                break
            bucket, theirs = asked.todo.popleft()
            records = _live(self._reader, bucket, now)
            read += len(records) + 1
            if live_hash(records, now) != theirs:
                self._send_keys(asked, bucket, records)
        self._finish_if_done(asked, now)

    def _send_keys(self, asked: Asked, bucket: BucketNumber, records: Records) -> None:
        """A bucket in ranges that together cover it all."""
        first, final = bucket_range(bucket)
        parts = range(0, max(1, len(records)), KEYS_PER_MESSAGE_MAX)
        for start in parts:
            part = records[start : start + KEYS_PER_MESSAGE_MAX]
            is_final = start == parts[-1]
            upto = final if is_final else part[-1][0]
            keys = tuple(KeyHash(key, record_hash(key, pin)) for key, pin in part)
            self._carrier.send(asked.peer, BucketKeys(asked.request, first, upto, keys, last=False))
            asked.ranges_open += 1
            if not is_final:
                first = _after(upto)

    def _take_pins(self, asked: Asked, word: BucketPins) -> None:
        found = len(word.pins) + len(word.wanted)
        asked.differing += found
        self._counters.keys_repaired += found
        asked.ranges_open -= word.last
        for record in word.pins:
            mine = self._store.get(record.key)
            if mine is not None and _identity(mine) != _identity(record):
                self._replication.append(record.key, mine)
        for key in word.wanted:
            mine = self._store.get(key)
            if mine is not None:
                self._replication.append(key, mine)

    def _finish_if_done(self, asked: Asked, now: float) -> None:
        if not asked.has_all or asked.todo:
            return
        if not asked.has_asked_all:
            asked.has_asked_all = True
            first, _ = bucket_range(BucketNumber(0))
            self._carrier.send(asked.peer, BucketKeys(asked.request, first, first, (), last=True))
            asked.ranges_open += 1
        elif asked.ranges_open <= 0:
            self._asked = None
            self._on_done(asked, now)


@dataclass(slots=True)
class _Served:
    """A comparison that a peer has begun."""

    request: int
    heard_at: float
    todo: deque[BucketNumber]
    is_told: bool = False
    differing: int = 0


class Server:
    """The comparisons that peers have begun with this node."""

    def __init__(
        self,
        *,
        store: DigestedStore,
        reader: PinReader,
        carrier: Carrier,
        on_done: Callable[[NodeName, int, float], None],
    ) -> None:
        """Wire; `on_done` is told of each peer that is done, its differing keys, and when."""
        self._buckets = store.buckets
        self._reader = reader
        self._carrier = carrier
        self._on_done = on_done
        self._served: dict[NodeName, _Served] = {}

    @property
    def has_work(self) -> bool:
        """True where `go_on` has something to do."""
        return any(not served.is_told for served in self._served.values())

    def begin(self, peer: NodeName, word: BucketHashes, now: float) -> None:
        """`peer` wants to compare."""
        if not self._buckets.is_whole or len(word.hashes) != BUCKETS:
            return
        if peer in self._served or len(self._served) < SERVED_MAX:
            todo = deque(self._buckets.differing(word.hashes))
            self._served[peer] = _Served(word.request, now, todo)

    def closed(self, peer: NodeName) -> None:
        """There is no stream to `peer` any more."""
        self._served.pop(peer, None)

    def give_up_stalled(self, now: float) -> None:
        """End the comparisons whose peers are silent."""
        for peer, served in list(self._served.items()):
            if now - served.heard_at > COMPARE_STALL_S:
                del self._served[peer]

    def go_on(self, now: float) -> None:
        """Tell the hashes of some buckets that differ."""
        read = 0
        for peer, served in self._served.items():
            if not served.is_told and read < SCAN_PINS and self._carrier.takes_more(peer):
                read += self._tell(peer, served, now)

    def _tell(self, peer: NodeName, served: _Served, now: float) -> int:
        """The hashes of the next buckets; how many records were read."""
        buckets: list[BucketNumber] = []
        hashes: list[Hash64] = []
        read = 0
        while served.todo and read < SCAN_PINS:
            bucket = served.todo.popleft()
            records = _live(self._reader, bucket, now)
            read += len(records) + 1
            buckets.append(bucket)
            hashes.append(live_hash(records, now))
        served.is_told = not served.todo
        told = BucketsDiffering(served.request, tuple(buckets), tuple(hashes), served.is_told)
        self._carrier.send(peer, told)
        return read

    def answer(self, peer: NodeName, asked: BucketKeys, now: float) -> None:
        """Say what differs in a range, or that the end of the comparison has been heard."""
        served = self._served.get(peer)
        if served is None or served.request != asked.request:
            return
        served.heard_at = now
        if bucket_of(asked.first) != bucket_of(asked.final):
            del self._served[peer]  # to read all that might be a whole table
            return
        if asked.last:
            del self._served[peer]
            self._carrier.send(peer, BucketPins(asked.request, (), (), last=True))
            self._on_done(peer, served.differing, now)
            return
        pins, wanted = self._difference(asked, now)
        served.differing += len(pins) + len(wanted)
        for start in range(0, len(pins), PINS_PER_MESSAGE_MAX):
            part = tuple(pins[start : start + PINS_PER_MESSAGE_MAX])
            self._carrier.send(peer, BucketPins(asked.request, part, (), last=False))
        self._carrier.send(peer, BucketPins(asked.request, (), wanted, last=True))

    def _difference(
        self, asked: BucketKeys, now: float
    ) -> tuple[list[PinRecord], tuple[SessionKey, ...]]:
        """The pins that the asker lacks or has otherwise, and the keys that this node lacks."""
        theirs = {short.key: short.hash for short in asked.keys}
        pins = []
        for key, pin in _between(self._reader, asked.first, asked.final):
            is_alike = theirs.get(key) == record_hash(key, pin)
            if is_alike or pin.expires_at > now:
                theirs.pop(key, None)
            if not is_alike and pin.expires_at > now:
                pins.append(record_from_pin(key, pin, now=now))
        return pins, tuple(theirs)


def _live(reader: PinReader, bucket: BucketNumber, now: float) -> Records:
    records = _between(reader, *bucket_range(bucket))
    return [(key, pin) for key, pin in records if pin.expires_at > now]


def _between(
    reader: PinReader, first: SessionKey, final: SessionKey
) -> Iterator[tuple[SessionKey, Pin]]:
    after, limit = before(first), PAGE_PINS
    while page := reader.scan(after, limit):
        for key, pin in page:
            if key > final:
                return
            yield key, pin
        after, limit = page[-1][0], min(2 * limit, SCAN_PINS)


def _after(key: SessionKey) -> SessionKey:
    return SessionKey((int.from_bytes(key, "big") + 1).to_bytes(len(key), "big"))


def _identity(pin: Pin | PinRecord) -> tuple[object, ...]:
    return (pin.epoch, pin.rank, pin.stamp_ms, pin.claimer, pin.backend)
