"""Turns wake whoever takes them: what they have queued must not wait for something else."""

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.surroundings import BulkStore
from meshlb.cluster.turns import Turns
from meshlb.core.sticky.events import ViewChanged
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.proposals import claim_from_proposal
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import (
    Claim,
    Delta,
    DeltaAck,
    Message,
    PullChunk,
    Replicate,
    ViewMark,
)
from tests.fakes.claims import ME, B, key_held_by
from tests.fakes.pins import NOW, a_key, a_pin, a_proposal


class World:
    """Store and streams of one node that stands between turns; `wakes` counts its calls."""

    def __init__(self, bulk: BulkStore | None = None) -> None:
        self.pins: dict[SessionKey, Pin] = {}
        self.sent: list[Message] = []
        self.wakes = 0
        self.commits = 0
        self.turns = Turns(
            name=ME,
            log=ReplicationLog(BootId(1)),
            store=self,
            streams=self,
            counters=MeshCounters(),
            now=lambda: NOW,
            on_work=self._wake,
            on_done=lambda done: None,
            bulk=bulk,
        )
        self.turns.opened(B, BootId(2))
        self.turns.hear(B, [DeltaAck(BootId(0), 0)])
        self.turns.receive(ViewChanged((ME, B), view_id=7, quorate=True))
        self.turns.hear(B, [ViewMark(7)])
        self.turns.take()
        self.wakes = self.commits = 0

    def _wake(self) -> None:
        self.wakes += 1

    def get(self, key: SessionKey) -> Pin | None:
        return self.pins.get(key)

    def put(self, key: SessionKey, pin: Pin) -> None:
        self.pins[key] = pin

    def commit(self) -> None:
        self.commits += 1

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        return sorted((k, p) for k, p in self.pins.items() if after is None or k > after)[:limit]

    def send(self, peer: NodeName, message: Message) -> None:
        self.sent.append(message)

    def takes_more(self, peer: NodeName) -> bool:
        return True

    def peers(self) -> list[NodeName]:
        return [B]

    def flush(self) -> None:
        """Nothing waits here."""


def a_claim(nth: int) -> Claim:
    key = key_held_by(ME, B, owners=(ME, B), nth=nth)
    return claim_from_proposal(a_proposal(key), request=nth + 1, is_hedged=False)


def test_what_several_frames_lead_to_leaves_with_one_turn() -> None:
    world = World()
    world.sent.clear()
    world.turns.hear(B, [a_claim(0)])
    world.turns.hear(B, [a_claim(1)])
    assert world.wakes
    assert not world.sent
    world.turns.take()
    assert [type(message) for message in world.sent] == [Replicate, Replicate]
    assert world.commits == 1


def test_a_mark_for_a_stream_that_was_replaced_is_not_sent_on_the_new_one() -> None:
    world = World()
    world.turns.receive(ViewChanged((ME, B), view_id=8, quorate=True))
    world.turns.opened(B, BootId(2))
    world.sent.clear()
    world.turns.take()
    assert not world.sent


def test_a_mark_behind_a_gap_takes_back_the_one_before_and_counts_once_the_gap_is_filled() -> None:
    world = World()
    world.turns.hear(B, [Delta(BootId(2), 5, 6, ()), ViewMark(7)])
    assert world.turns.claims.barrier_missing == {B}
    world.turns.pull(B, is_synced=True)
    world.turns.hear(B, [PullChunk(1, (), True)])
    assert not world.turns.claims.barrier_missing


def test_a_pull_leaves_with_a_turn_of_its_own() -> None:
    world = World()
    world.turns.pull(B, is_synced=True)
    assert world.wakes == 1


def test_a_tombstone_that_is_prolonged_is_told_to_all() -> None:
    world = World()
    stone = a_pin("", stamp_ms=round(NOW * 1_000), expires_at=NOW + 1.0)
    world.pins[a_key()] = stone
    assert world.turns.prolong(a_key(), stone)
    assert world.wakes == 1
    world.turns.take()
    (delta,) = [message for message in world.sent if isinstance(message, Delta)]
    assert delta.pins[0].expires_in_ms == TOMBSTONE_GRACE_S * 1_000
    assert world.pins[a_key()].expires_at == NOW + TOMBSTONE_GRACE_S


def test_a_tombstone_of_long_ago_is_not_prolonged() -> None:
    world = World()
    assert not world.turns.prolong(a_key(), a_pin("", stamp_ms=1_000, expires_at=NOW + 1.0))
    assert world.pins == {}
