"""A member whose peers say anything that the wire allows, in any order, and whose streams break.

It never raises, serves each of its own clients once and in time, keeps only records that a member
could have made, and sends only what its peers can read.

Input: operations, each a byte and what it needs.
"""

import random
from collections.abc import Callable, Iterator

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.turns import Turns
from meshlb.core.sticky.claimer import CLAIM_TIMEOUT_S
from meshlb.core.sticky.events import ClaimDone, ClaimStarted, ViewChanged
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import EPOCH_MAX, STAMP_MS_MAX, Pin
from meshlb.errors import WireError
from meshlb.model import BackendName, BootId, NodeName, PoolName, SessionKey
from meshlb.store.names import Names
from meshlb.store.packing import pack, unpack
from meshlb.wire import codec
from meshlb.wire.limits import BUCKETS
from meshlb.wire.messages import TYPE_IDS, BucketNumber, Hash64, Message
from tests.fakes.pins import NOW, DictStore, a_key, a_proposal
from tests.fuzz.reader import Reader
from tests.fuzz.values import Values, value

ME, BOOT = NodeName("a"), BootId(8)
PEERS = [NodeName("b"), NodeName("c")]
OWNERS = [("a", "b", "c"), ("a",), ("a", "b"), ("b", "c"), ()]
BACKENDS = ["s1", "s2", ""]
NUMBERS = [1, 0, 2, 3, 4, 7, 1_000, 60_000, 2**32, 2**48, 2**64 - 1]
PAUSES_S = [0.0, 0.02, 0.1, 0.3, 1.0, 5.0, 40.0]
OPERATIONS_MAX = 48
SERVED_S_MAX = 4 * CLAIM_TIMEOUT_S
"""A client that is not content with the answer to another one's claim waits for its own."""

CHECKED_BYTES_MAX = 2_000
"""Of what is larger, the sums of all buckets, only that it can be written."""

# Keys of several homes, some in one bucket.
KEYS = [a_key(number, slot=slot) for number, slot in ((1, 0), (2, 0), (1, 1), (1, 2), (1, 28))]

SPOKEN = [
    cls
    for cls in TYPE_IDS.values()
    if cls.__name__
    in {
        *("Claim", "ClaimAnswer", "Replicate", "ReplicateAnswer", "Delta", "DeltaAck"),
        *("PullRequest", "PullChunk", "ViewMark", "Digest", "BucketHashes", "BucketsDiffering"),
        *("BucketKeys", "BucketPins"),
    }
]
"""What a member hears about pins."""

_VALUES: Values = {
    int: lambda reader: reader.pick(NUMBERS),
    bool: lambda reader: bool(reader.number() & 1),
    BootId: lambda reader: reader.pick([7, 0, 8, 2**64 - 1]),
    Hash64: lambda reader: reader.pick([0, 1, 2**64 - 1]),
    BucketNumber: lambda reader: reader.pick([0, 1, 2, BUCKETS - 1]),
    NodeName: lambda reader: reader.pick(["b", "a", "c", "z"]),
    PoolName: lambda reader: reader.pick(["app", "api"]),
    BackendName: lambda reader: reader.pick(BACKENDS),
    SessionKey: lambda reader: reader.pick(KEYS),
    tuple[Hash64, ...]: lambda reader: (
        (reader.pick([0, 1, 2**64 - 1]),) * reader.pick([BUCKETS, 0, 1, BUCKETS - 1])
    ),
}


class _Store(DictStore):
    """Keeps what the real one could keep."""

    def __init__(self) -> None:
        super().__init__()
        self._names = Names()

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        keys = sorted(key for key in self if after is None or key > after)
        return [(key, self[key]) for key in keys[:limit]]

    def put(self, key: SessionKey, pin: Pin) -> None:
        super().put(key, pin)
        assert unpack(pack(pin, self._names), self._names).backend == pin.backend

    def commit(self) -> None:
        """There is no disk."""


class Member:
    """One member, its time and its streams."""

    def __init__(self) -> None:
        self.now = NOW
        self.store = _Store()
        self.open: set[NodeName] = set()
        self.asked: dict[int, float] = {}
        self.tokens = 0
        self.turns = Turns(
            name=ME,
            log=ReplicationLog(BootId(7), entries_max=8),
            store=self.store,
            streams=self,
            counters=MeshCounters(),
            now=lambda: self.now,
            on_work=lambda: None,
            on_done=self._done,
        )

    # Streams, as turns see them ----------------------------------------------------------

    def send(self, peer: NodeName, message: Message) -> None:
        encoded = codec.encode([message])
        assert len(encoded) > CHECKED_BYTES_MAX or codec.decode(encoded) == (message,), message

    def takes_more(self, peer: NodeName) -> bool:
        return True

    def peers(self) -> list[NodeName]:
        return sorted(self.open)

    def flush(self) -> None:
        """What was sent is judged at once."""

    # Operations --------------------------------------------------------------------------

    def hear(self, reader: Reader) -> None:
        peer, kind = reader.pick(PEERS), reader.pick(SPOKEN)
        message = value(kind, reader, _VALUES)
        try:
            heard = codec.decode(codec.encode([message]))
        except WireError:
            return  # such a message does not arrive
        if peer in self.open:
            self.turns.hear(peer, heard)  # type: ignore[arg-type]  # they are about pins

    def claim(self, reader: Reader) -> None:
        proposal = a_proposal(
            reader.pick(KEYS),
            reader.pick(["s1", "s2"]),
            ttl_s=reader.pick([20.0, 0.5, 1_200.0]),
            max_age_s=reader.pick([None, 30.0]),
            moved_from=reader.pick(BACKENDS),
            moved_from_epoch=reader.pick([0, 1, 3, EPOCH_MAX]),
        )
        self.tokens += 1
        token = self.tokens
        self.asked[token] = self.now
        self.turns.receive(ClaimStarted(token, proposal))
        self.turns.take()

    def stream(self, reader: Reader) -> None:
        peer = reader.pick(PEERS)
        if reader.number() & 1:
            self.open.discard(peer)
            self.turns.closed(peer)
        else:
            self.open.add(peer)
            self.turns.opened(peer, BootId(reader.pick([8, 9])))
        self.turns.take()

    def view(self, reader: Reader) -> None:
        owners = tuple(map(NodeName, reader.pick(OWNERS)))
        quorate = bool(reader.number() & 1)
        self.turns.receive(ViewChanged(owners, reader.pick(NUMBERS), quorate=quorate))
        self.turns.take()

    def write(self, reader: Reader) -> None:
        key, replica = reader.pick(KEYS), self.turns.claims.replica
        pin = replica.look_up(key, self.now)
        stored = None
        if pin is None:
            stored, _ = replica.plant(a_proposal(key), epoch=reader.number() % 4, now=self.now)
        elif reader.number() & 1:
            stored = replica.unpin(key, self.now)
        else:
            stored = replica.touch(key, pin, 20.0, self.now)
        if stored is not None:
            self.turns.stored(key, stored)
        self.turns.take()

    def pull(self, reader: Reader) -> None:
        peer, is_synced = reader.pick(PEERS), bool(reader.number() & 1)
        if peer in self.open:
            self.turns.pull(peer, is_synced=is_synced)
            self.turns.take()

    def wait(self, reader: Reader) -> None:
        self.pass_time(reader.pick(PAUSES_S))

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(4_000):
            due = self.turns.next_deadline()
            if due > until:
                break
            self.now = max(self.now, due)
            self.turns.take()
        else:
            raise AssertionError("its timers never rest")
        self.now = until

    # What must not be --------------------------------------------------------------------

    def _done(self, done: ClaimDone) -> None:
        asked_at = self.asked.pop(done.token)  # a second answer is a KeyError
        assert self.now <= asked_at + SERVED_S_MAX, "a client has waited for too long"

    def look(self) -> None:
        for pin in self.store.values():
            assert pin.epoch <= EPOCH_MAX
            assert pin.stamp_ms <= STAMP_MS_MAX
            assert pin.expires_at <= pin.ends_at


def check(given: bytes, under_test: Callable[[], Member] = Member) -> None:
    """Raises what must not happen."""
    reader, member = Reader(given), under_test()
    operations = [
        *(member.hear, member.hear, member.claim, member.wait),
        *(member.stream, member.view, member.write, member.pull),
    ]
    for peer in PEERS:
        member.open.add(peer)
        member.turns.opened(peer, BOOT)
    member.turns.receive(ViewChanged((ME, *PEERS), 1, quorate=True))
    member.turns.take()
    for _ in range(OPERATIONS_MAX):
        if reader.is_empty:
            break
        reader.pick(operations)(reader)
        member.look()
    member.pass_time(SERVED_S_MAX)
    assert not member.asked, "a client was not served"


def seeds() -> Iterator[bytes]:
    rng = random.Random(2026)
    for size in (20, 60, 150, 300):
        for _ in range(8):
            yield rng.randbytes(size)
