"""Copies as replication sees them: what is told, what is dropped, and what ends one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshlb.cluster.copying import Sender
from meshlb.cluster.replication import Replication
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.stamps import StampClock
from meshlb.model import BootId, SessionKey
from meshlb.store import LmdbPins
from meshlb.wire.messages import Delta, DeltaAck, PullRequest
from meshlb.wire.runs import PackedEnds, PackedPins, TableRun
from tests.unit.cluster.test_replication import OURS, A, Rig, key, pin


class CopyingRig(Rig):
    """With a real store that can be copied to, and a member whose table is copied."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.store, self.theirs = LmdbPins(folder / "own"), LmdbPins(folder / "theirs")
        self.replication = Replication(
            ReplicationLog(OURS),
            self.store,
            self,
            self.counters,
            stamps=StampClock(),
            bulk=self.store,
        )
        self.replication.opened(A)
        self.replication.acked(A, DeltaAck(BootId(0), 0))
        self.replication.on_replaced = self._merge

    def _merge(self, key: SessionKey, pin: Pin) -> bool:
        self.store.put(key, pin)
        return True

    def copy(self, *, now: float = 0.0) -> None:
        """All runs of a copy, and what it has replaced."""
        self.replication.pull(A, is_synced=True, now=now, may_copy=True)
        request = next(m for _, m in self.sent if isinstance(m, PullRequest))
        assert request.packed
        run = Sender(self.theirs, request.request).next_run(stamp_ms=0, now=now)
        assert run is not None
        self.replication.run_arrived(A, run, now)
        while self.replication.is_replaying:
            self.replication.replay(now)

    def told(self) -> list[SessionKey]:
        self.flush(A)
        return [record.key for m in self.said(A) if isinstance(m, Delta) for record in m.pins]


@pytest.fixture
def copying(tmp_path: Path) -> Iterator[CopyingRig]:
    rig = CopyingRig(tmp_path)
    yield rig
    rig.store.close()
    rig.theirs.close()


def test_what_a_replaced_table_held_is_told_and_what_was_deleted_meanwhile_is_dropped(
    copying: CopyingRig,
) -> None:
    for number, stamp_ms in ((1, 50), (2, 50), (3, 200)):
        copying.store.put(key(number), pin(stamp_ms=stamp_ms))
    copying.store.put(key(4), replace(pin(stamp_ms=300), expires_at=5.0))
    copying.store.commit()
    copying.theirs.put(key(2), pin(stamp_ms=50))
    copying.theirs.commit()
    copying.replication.away_since_ms = 100
    copying.copy(now=10.0)
    assert copying.told() == [key(3)]
    assert [k for k, _ in copying.store.scan(None, 10)] == [key(2), key(3)]
    assert copying.replication.has_pulled_synced
    assert copying.replication.away_since_ms is None


def test_what_came_from_others_while_an_empty_node_was_sent_a_copy_is_not_told_again(
    copying: CopyingRig,
) -> None:
    copying.replication.pull(A, is_synced=True, now=0.0, may_copy=True)
    copying.store.put(key(1), pin())
    copying.store.commit()
    run = Sender(copying.theirs, 1).next_run(stamp_ms=0, now=0.0)
    assert run is not None
    copying.replication.run_arrived(A, run, 0.0)
    copying.replication.replay(0.0)
    assert copying.store.get(key(1)) == pin()
    assert copying.told() == []


def test_a_copy_that_comes_to_nothing_is_followed_by_chunks(copying: CopyingRig) -> None:
    copying.replication.pull(A, is_synced=True, now=0.0, may_copy=True)
    bad = TableRun(1, 0, 0, (), PackedPins(bytes(39)), PackedEnds(b""), (), last=False)
    copying.replication.run_arrived(A, bad, 0.0)
    assert copying.replication.pulling_from is None
    copying.said(A)
    copying.replication.pull(A, is_synced=True, now=0.0, may_copy=True)
    assert copying.said(A) == [PullRequest(2, packed=False)]


def test_a_copy_ends_with_its_stream_or_when_it_stalls_but_not_once_it_is_in_use(
    copying: CopyingRig,
) -> None:
    copying.store.put(key(1), pin())
    copying.store.commit()
    copying.replication.pull(A, is_synced=True, now=0.0, may_copy=True)
    run = Sender(copying.theirs, 1).next_run(stamp_ms=0, now=0.0)
    assert run is not None
    copying.replication.run_arrived(A, replace(run, last=False), 0.0)
    copying.replication.closed(A)
    assert copying.replication.pulling_from is None
    assert copying.store.get(key(1)) == pin()
    copying.replication.opened(A)
    copying.replication.pull(A, is_synced=True, now=0.0, may_copy=True)
    copying.replication.run_arrived(A, replace(run, request=2), 0.0)
    copying.replication.closed(A)
    copying.replication.give_up_stalled(100.0)
    assert copying.replication.is_replaying
    copying.replication.replay(100.0)
    assert copying.store.get(key(1)) == pin()
