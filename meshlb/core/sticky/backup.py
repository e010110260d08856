"""The backup's role: hold what the home is about to confirm, and contradict a mistaken home.

Owns the verdict on a Replicate and the watch over what was held (`held`). The acknowledgement is
the fence of the agreement: a deposed home finds no backup that takes its word, and a home that
lacks a pin learns of it here before it makes another.

Spec: protocol/spec/pins.md, "Claims".
"""

from meshlb.core.sticky.events import Effect, Send, Stored
from meshlb.core.sticky.held import Held
from meshlb.core.sticky.lifetime import lingers
from meshlb.core.sticky.merge import order
from meshlb.core.sticky.pin import Pin, is_acceptable, pin_from_record, record_from_pin
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import PinRecord, Replicate, ReplicateAnswer, Verdict


class Backup:
    """What this node holds for the homes it backs."""

    def __init__(self, standing: Standing, replica: Replica, counters: ClaimCounters) -> None:
        self._standing = standing
        self._replica = replica
        self._counters = counters
        self._held = Held()

    def asked(self, sender: NodeName, asked: Replicate, now: float, out: list[Effect]) -> None:
        """A member that takes itself for the home asks this node to hold a pin."""
        verdict, known = self._judge(sender, asked.pin, now)
        if verdict is Verdict.DONE:
            self._replica.merge_record(asked.pin, now)
            self._announce(self._held.add(asked.pin.key, sender, now), out)
        record = None if known is None else record_from_pin(asked.pin.key, known, now=now)
        out.append(Send(sender, ReplicateAnswer(asked.request, verdict, record)))

    def _judge(self, sender: NodeName, record: PinRecord, now: float) -> tuple[Verdict, Pin | None]:
        if self._standing.holders(record.key) != (sender, self._standing.name):
            self._counters.fenced += 1
            return Verdict.FENCED, None
        if not is_acceptable(record):
            self._counters.refused += 1
            return Verdict.FENCED, None
        known = self._replica.stored(record.key)
        if known is not None and outdoes(known, pin_from_record(record, now=now), now):
            return Verdict.EXISTS, known
        return Verdict.DONE, None

    def saw(self, key: SessionKey, teller: NodeName) -> None:
        """`teller` has told everybody about its pin of `key`."""
        self._held.see(key, teller)

    def view_changed(self, out: list[Effect]) -> None:
        """Announce what a home may not have told, before the new view is marked."""
        for key in self._held.release(self._standing.homes.owners):
            self._announce(key, out)

    def next_deadline(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._held.next_deadline()

    def handle_timer(self, now: float, out: list[Effect]) -> None:
        """Announce what a home has been silent about for too long."""
        for key in self._held.overdue(now):
            self._announce(key, out)

    def _announce(self, key: SessionKey | None, out: list[Effect]) -> None:
        pin = None if key is None else self._replica.stored(key)
        if key is not None and pin is not None:
            self._counters.announced += 1
            out.append(Stored(key, pin))


def outdoes(known: Pin, proposed: Pin, now: float) -> bool:
    """True where the home has to hear of `known` before `proposed` may be confirmed."""
    ttl_s = proposed.expires_at - now
    if known.expires_at <= now and not lingers(known, ttl_s, now):
        return False
    if known.epoch != proposed.epoch:
        return known.epoch > proposed.epoch
    if known.backend == proposed.backend:
        return False
    # Of one epoch: what was held first stays, unless it ranks below and was stamped later. A
    # home that knows of `known` and still prefers its own has compared the stamps likewise.
    return known.rank >= proposed.rank or order(known)[2:] > order(proposed)[2:]
