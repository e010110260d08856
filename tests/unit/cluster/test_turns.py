"""Turns wake whoever takes them: what they have queued must not wait for something else."""

import math

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.turns import Turns
from meshlb.core.sticky.events import ViewChanged
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.proposals import claim_from_proposal
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import Delta, DeltaAck, Message, ViewMark
from tests.fakes.claims import ME, B, key_held_by
from tests.fakes.pins import NOW, a_key, a_pin, a_proposal


class World:
    """Store and streams of one node that stands between turns; `wakes` counts its calls."""

    def __init__(self) -> None:
        self.pins: dict[SessionKey, Pin] = {}
        self.sent: list[Message] = []
        self.wakes = 0
        self.turns = Turns(
            name=ME,
            log=ReplicationLog(BootId(1)),
            store=self,
            streams=self,
            counters=MeshCounters(),
            now=lambda: NOW,
            on_work=self._wake,
            on_done=lambda done: None,
        )
        self.turns.opened(B, BootId(2))
        self.turns.hear(B, [DeltaAck(BootId(0), 0)])
        self.turns.receive(ViewChanged((ME, B), view_id=7, quorate=True))
        self.turns.hear(B, [ViewMark(7)])
        self.wakes = 0

    def _wake(self) -> None:
        self.wakes += 1

    def get(self, key: SessionKey) -> Pin | None:
        return self.pins.get(key)

    def put(self, key: SessionKey, pin: Pin) -> None:
        self.pins[key] = pin

    def commit(self) -> None:
        """Nothing is lost here."""

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        return []

    def send(self, peer: NodeName, message: Message) -> None:
        self.sent.append(message)

    def takes_more(self, peer: NodeName) -> bool:
        return True

    def peers(self) -> list[NodeName]:
        return [B]

    def flush(self) -> None:
        """Nothing waits here."""


def test_a_message_that_sets_an_earlier_alarm_wakes_the_loop() -> None:
    world = World()
    slept_until = world.turns.next_deadline()
    claim = claim_from_proposal(
        a_proposal(key_held_by(ME, B, owners=(ME, B))), request=1, is_hedged=False
    )
    world.turns.hear(B, [claim])
    assert world.turns.next_deadline() < slept_until
    assert world.wakes == 1


def test_a_message_that_sets_no_alarm_wakes_nobody() -> None:
    world = World()
    assert world.turns.next_deadline() < math.inf
    world.turns.hear(B, [ViewMark(7)])
    assert world.wakes == 0


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
