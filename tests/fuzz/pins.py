"""The merge of pins: replicas that hear the same agree, and each does what the reference does.

Three checks of one input:

- `in_step`: records, uses of time and deletions one after another; after each the table is that
  of `protocol.reference.merge`, and the sums of the buckets are those of the table.
- `in_any_order`: the same records, in several orders and with repetitions, give equal tables.
- `through_logs`: what a log tells of them reaches a reader that loses streams and pulls.

Input: operations, each some bytes; see `deliveries`.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.digest import Buckets, DigestedStore
from meshlb.core.sticky.intake import Intake
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.merge import order
from meshlb.core.sticky.pin import NEVER, Pin
from meshlb.core.sticky.replica import JITTER_S, Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import BackendName, BootId, KeySource, NodeName, PoolName
from meshlb.wire.messages import PinRecord, Rank
from protocol.reference import merge as reference
from tests.fakes.pins import NOW, DictStore, a_key
from tests.fuzz.reader import Reader

KEYS = [a_key(number, slot=slot) for number, slot in ((1, 0), (2, 0), (1, 1), (1, 1023))]
POOLS = ["app", "api"]
BACKENDS = ["s1", "s2", ""]
CLAIMERS = ["n1", "n2"]
EPOCHS = [0, 1, 2, 2**32 - 1, 2**32, 2**64 - 1]
STAMPS = [1, 2, 3, 2**48 - 1, 2**48]
IDLE_MS = [20_000, 0, 1_500, 5_000, 40_000, 2**40, 2**64 - 1]
END_MS = [0, 2_500, 10_000, 30_000, 2**40]
PAUSES_S = [0.0, 0.5, 1.0, 4.0, 5_000.0]
OPERATIONS_MAX = 24

ME = NodeName("me")

Merge = Callable[[Replica, PinRecord, float], object]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record, and how long after the one before it comes."""

    pause_s: float
    record: PinRecord


def deliveries(given: bytes) -> list[Delivery]:
    reader, read = Reader(given), list[Delivery]()
    while not reader.is_empty and len(read) < OPERATIONS_MAX:
        record = PinRecord(
            reader.pick(KEYS),
            PoolName(reader.pick(POOLS)),
            BackendName(reader.pick(BACKENDS)),
            reader.pick([KeySource.HEADER, KeySource.COOKIE]),
            reader.pick(EPOCHS),
            reader.pick(list(Rank)),
            reader.pick(STAMPS),
            NodeName(reader.pick(CLAIMERS)),
            reader.pick(IDLE_MS),
            reader.pick(END_MS),
        )
        read.append(Delivery(reader.pick(PAUSES_S), record))
    return read


def merge_record(replica: Replica, record: PinRecord, now: float) -> object:
    """What a node does with a record: one without time left is ignored."""
    return record.expires_in_ms and replica.merge_record(record, now)


def check(given: bytes, merge: Merge = merge_record) -> None:
    """Raises what must not happen."""
    told = deliveries(given)
    in_step(told, merge)
    in_any_order([delivery.record for delivery in told], merge)
    through_logs(told, random.Random(given))


def _replica() -> tuple[Replica, DictStore, DigestedStore]:
    table = DictStore()
    digested = DigestedStore(table)
    digested.buckets.count([])
    replica = Replica(digested, Standing(ME, Barrier(ME)), StampClock(), ClaimCounters())
    return replica, table, digested


def _recounted(table: DictStore) -> Buckets:
    buckets = Buckets()
    buckets.count(sorted(table.items()))
    buckets.count([])
    return buckets


# Checks ------------------------------------------------------------------------------------


def in_step(told: list[Delivery], merge: Merge) -> None:
    replica, table, digested = _replica()
    witness = reference.Table()
    now = NOW
    for delivery in told:
        now += delivery.pause_s
        merge(replica, delivery.record, now)
        witness.receive(_as_reference(delivery.record), now_ms=_ms(now))
        assert {key.hex(): _as_witnessed(pin) for key, pin in table.items()} == witness.records
        recounted = _recounted(table)
        assert digested.buckets.total == recounted.total
        assert digested.buckets.sums() == recounted.sums()


def in_any_order(records: list[PinRecord], merge: Merge) -> None:
    tables = []
    for seed in range(3):
        heard = records + records[: len(records) // 2]
        random.Random(seed).shuffle(heard)
        replica, table, digested = _replica()
        for record in heard:
            merge(replica, record, NOW)
        tables.append((table, digested.buckets.total))
    (first, total), *others = tables
    for table, other_total in others:
        assert other_total == total
        assert table.keys() == first.keys()
        for key, pin in table.items():
            assert order(pin) == order(first[key])
            assert _is_close(pin.ends_at, first[key].ends_at)
            assert _is_close(pin.expires_at, first[key].expires_at)


def through_logs(told: list[Delivery], rng: random.Random) -> None:
    """One member tells another of what it merges; each breaks off and goes on now and then."""
    source, there, _ = _replica()
    target, here, _ = _replica()
    log, intake = ReplicationLog(BootId(7), entries_max=4), Intake()
    reader, now, has_gap = NodeName("reader"), NOW, False
    log.open(reader, 0, 0)
    for delivery in told:
        key = delivery.record.key
        if merge_record(source, delivery.record, now):
            log.append(key, there[key])
        if rng.random() < 0.3:  # a new stream: what was under way on the old one is lost
            log.next_delta(reader, now)
            position = intake.position(ME)
            log.open(reader, position.boot_id, position.seq)
        if rng.random() < 0.5:
            has_gap |= not _read(log, intake, target, reader, now)
    position = intake.position(ME)
    log.open(reader, position.boot_id, position.seq)
    while log.sent_seq(reader) != log.last_seq:
        has_gap |= not _read(log, intake, target, reader, now)
    if has_gap:
        for key, pin in there.items():
            target.merge(key, pin, now)
    assert {key: order(pin) for key, pin in here.items()} == {
        key: order(pin) for key, pin in there.items()
    }


def _read(
    log: ReplicationLog, intake: Intake, target: Replica, reader: NodeName, now: float
) -> bool:
    delta = log.next_delta(reader, now)
    if delta is None:
        return True
    for record in delta.pins:
        merge_record(target, record, now)
    return intake.advance(ME, delta)


# Between the two forms of a record ---------------------------------------------------------


def _ms(seconds: float) -> int:
    return round((seconds - NOW) * 1_000)


def _as_reference(record: PinRecord) -> reference.Record:
    return {
        "key": record.key.hex(),
        "pool": record.pool,
        "backend": record.backend,
        "by": record.by.value,
        "epoch": record.epoch,
        "rank": record.rank.value,
        "stamp_ms": record.stamp_ms,
        "claimer": record.claimer,
        "expires_in_ms": record.expires_in_ms,
        "ends_in_ms": record.ends_in_ms,
    }


def _as_witnessed(pin: Pin) -> reference.Pin:
    return reference.Pin(
        pin.epoch,
        pin.rank.value,
        pin.stamp_ms,
        pin.claimer,
        pin.backend,
        pin.pool,
        pin.by.value,
        _ms(pin.expires_at),
        None if pin.ends_at == NEVER else _ms(pin.ends_at),
    )


def _is_close(one: float, other: float) -> bool:
    return one == other or abs(one - other) < 2 * JITTER_S


def seeds() -> Iterator[bytes]:
    rng = random.Random(2026)
    for size in (11, 22, 44, 110, 220):
        for _ in range(4):
            yield rng.randbytes(size)
