"""The backup's role: hold what the home is about to confirm, and contradict a mistaken home.

Owns the verdict on a Replicate, and what this node announces in the place of others (`held`,
`recent`). The acknowledgement is the fence of the agreement: a deposed home finds no backup that
takes its word, and a home that lacks a pin learns of it here before it makes another.

Spec: protocol/spec/pins.md, "Claims".
"""

from dataclasses import replace

from meshlb.core.sticky.events import Effect, Send, Stored
from meshlb.core.sticky.held import Held, HeldPins
from meshlb.core.sticky.lifetime import lingers
from meshlb.core.sticky.merge import order
from meshlb.core.sticky.pin import Pin, is_acceptable, pin_from_record, record_from_pin
from meshlb.core.sticky.recent import Recent
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.core.sticky.tried import Tried
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import PinRecord, Rank, Replicate, ReplicateAnswer, Verdict


class Backup:
    """What this node holds for the homes it backs."""

    def __init__(
        self, standing: Standing, replica: Replica, tried: Tried, counters: ClaimCounters
    ) -> None:
        self._standing = standing
        self._replica = replica
        self._tried = tried
        self._counters = counters
        self._held = Held()
        self._recent = Recent()

    def asked(self, sender: NodeName, asked: Replicate, now: float, out: list[Effect]) -> None:
        """A member that takes itself for the home asks this node to hold a pin."""
        key = asked.pin.key
        pin = pin_from_record(asked.pin, now=now)
        verdict, known = self._judge(sender, key, pin, now)
        if verdict is Verdict.DONE:
            self._announce(self._held.add(key, pin, home=sender, now=now), now, out)
        record = None if known is None else record_from_pin(key, known, now=now)
        out.append(Send(sender, ReplicateAnswer(asked.request, verdict, record)))

    def _judge(
        self, sender: NodeName, key: SessionKey, proposed: Pin, now: float
    ) -> tuple[Verdict, Pin | None]:
        if self._standing.holders(key) != (sender, self._standing.name):
            self._counters.fenced += 1
            return Verdict.FENCED, None
        if not is_acceptable(proposed):
            self._counters.refused += 1
            return Verdict.FENCED, None
        held = self._held.get(key)
        for known in (self._replica.stored(key), held):
            if known is None or not outdoes(known, proposed, now):
                continue
            if held is not None and _is_settled(known, held, proposed):
                continue
            return Verdict.EXISTS, known
        tried = self._tried.get(key, now)
        is_other = tried is not None and tried.backend != proposed.backend
        if tried is not None and is_other and tried.epoch >= proposed.epoch:
            return Verdict.EXISTS, replace(tried, rank=Rank.PROVISIONAL)
        return Verdict.DONE, None

    def told(self, teller: NodeName, record: PinRecord, now: float) -> None:
        """`teller` is telling everybody about this pin."""
        self._held.see(record.key, teller, epoch=record.epoch, rank=record.rank)
        self._recent.hear(teller, record.key, now)

    def answered(self, teller: NodeName, record: PinRecord, now: float) -> None:
        """`teller` has told this node about this pin, and perhaps nobody else."""
        if teller != self._standing.name:
            self._recent.hear(teller, record.key, now)

    def hedged(self, key: SessionKey, now: float, out: list[Effect]) -> None:
        """A claimer takes the home of `key` for silent: what is held for it counts now."""
        self._announce(self._held.release(key), now, out)

    def view_changed(self, now: float, out: list[Effect]) -> None:
        """Announce what others may not have heard, before the new view is marked."""
        self._let_go(self._standing.homes.owners, now, out)

    def leave(self, now: float, out: list[Effect]) -> None:
        """Announce all that others may not have heard, whoever told it."""
        self._let_go(frozenset(), now, out)

    def _let_go(self, owners: frozenset[NodeName], now: float, out: list[Effect]) -> None:
        self._announce(self._held.release_all(), now, out)
        for key in dict.fromkeys(self._recent.release(owners)):
            pin = self._replica.stored(key)
            if pin is not None:
                self._counters.announced += 1
                out.append(Stored(key, pin))

    def next_deadline(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._held.next_deadline()

    def handle_timer(self, now: float, out: list[Effect]) -> None:
        """Announce what a home has been silent about for too long."""
        self._announce(self._held.overdue(now), now, out)

    def _announce(self, pins: HeldPins, now: float, out: list[Effect]) -> None:
        for key, held in pins:
            if self._replica.merge(key, held, now) is not None:
                self._counters.announced += 1
                out.append(Stored(key, held))


def _is_settled(known: Pin, held: Pin, proposed: Pin) -> bool:
    """True where `proposed` was agreed to before, over what nobody has agreed on."""
    is_held = (held.epoch, held.backend) == (proposed.epoch, proposed.backend)
    return is_held and known.epoch == proposed.epoch and known.rank < proposed.rank


def outdoes(known: Pin, proposed: Pin, now: float) -> bool:
    """True where the home has to hear of `known` before `proposed` may be confirmed."""
    ttl_s = proposed.expires_at - now
    if known.expires_at <= now and not lingers(known, ttl_s, now):
        return False
    if known.epoch != proposed.epoch:
        return known.epoch > proposed.epoch
    if order(known) > order(proposed):
        return True
    # The proposed one would win the merge. But what was held first stays, unless it ranks below
    # and was stamped later: a home that knows of it and prefers its own has compared likewise.
    return known.backend != proposed.backend and (
        known.rank >= proposed.rank or order(known)[2:] > order(proposed)[2:]
    )
