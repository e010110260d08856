"""What a node does when it cannot get agreement: it serves the client on its own word.

Owns the choice between a provisional pin and an override, and the list of provisional pins to be
agreed on later. Must not know requests, time-outs or peers.

A key without a record gets a *provisional pin*: it is replicated like any other, and loses
against every agreed one. Whoever hears of one remembers it, and the home of its key has it agreed
on. A key that has a pin (which the claimer rejects) or a tombstone gets an *override* on this node
alone: nothing may move a pin but its home and backup together.

Spec: protocol/spec/pins.md, "Without agreement".
"""

from collections import OrderedDict

from meshlb.core.sticky.events import Effect, Stored
from meshlb.core.sticky.lifetime import fresh, lingers, renewed
from meshlb.core.sticky.pin import Pin, Proposal, epoch_after
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import Rank

SETTLE_EVERY_S = 1.0
"""How often provisional pins are claimed again."""

SETTLE_BATCH_MAX = 256
"""How many of them each time."""

SETTLE_LOOKS_MAX = 2_048
"""How many are looked at for that each time, those included that other nodes settle."""

SETTLE_FOR_OTHERS_LOOKS = 5
"""After so many of them anybody does it: maker and home may have forgotten it in a restart."""

UNSETTLED_MAX = 65_536
"""Beyond, the oldest stays provisional until somebody else claims it or it expires."""


class Fallback:
    """Provisional pins and overrides."""

    def __init__(
        self, standing: Standing, replica: Replica, stamps: StampClock, counters: ClaimCounters
    ) -> None:
        self._standing = standing
        self._replica = replica
        self._stamps = stamps
        self._counters = counters
        self._unsettled: OrderedDict[SessionKey, int] = OrderedDict()  # and how often looked at
        self._settle_at: float | None = None

    def pin_alone(
        self, proposal: Proposal, claimer: NodeName, now: float, out: list[Effect]
    ) -> Pin:
        """The pin to serve with: one that exists, or a new provisional pin or override."""
        key = proposal.key
        known = self._replica.record(key, now)
        if known is not None and not proposal.rejects(known):
            if known.is_live(now):
                return known
            if lingers(known, proposal.ttl_s, now):
                known = renewed(known, proposal.ttl_s, now)
                self._store(key, known, now, out)
                return known
        self._counters.provisional += 1
        stored = self._replica.stored(key)
        if stored is None or stored.expires_at <= now:
            epoch = stored.epoch if stored is not None else proposal.moved_from_epoch
            pin = self._make(proposal, claimer, epoch, now)
            self._store(key, pin, now, out)
            self.unsettle(key, now)
            return pin
        # A minority's override keeps the epoch: it must not look like a move to anybody.
        epoch = epoch_after(stored.epoch) if self._standing.quorate else stored.epoch
        return self._replica.override(key, self._make(proposal, claimer, epoch, now), now)

    def _make(self, proposal: Proposal, claimer: NodeName, epoch: int, now: float) -> Pin:
        expires_at, ends_at = fresh(proposal, now)
        return Pin(
            proposal.pool,
            proposal.backend,
            proposal.by,
            epoch,
            Rank.PROVISIONAL,
            self._stamps.draw(now),
            claimer,
            expires_at,
            ends_at,
        )

    def _store(self, key: SessionKey, pin: Pin, now: float, out: list[Effect]) -> None:
        if self._replica.merge(key, pin, now) is not None:
            out.append(Stored(key, pin))

    # Settling ----------------------------------------------------------------------------

    def unsettle(self, key: SessionKey, now: float) -> None:
        """There is a provisional pin of `key`: have it agreed on later, if that is for us."""
        if key in self._unsettled:
            return
        if len(self._unsettled) >= UNSETTLED_MAX:
            self._unsettled.popitem(last=False)
        self._unsettled[key] = 0
        if self._settle_at is None:
            self._settle_at = now + SETTLE_EVERY_S

    def next_deadline(self) -> float | None:
        """When `due` has something to give."""
        return self._settle_at

    def due(self, now: float) -> list[tuple[SessionKey, Pin]]:
        """Pins to claim now that are still provisional; those still so come back later."""
        if self._settle_at is None or self._settle_at > now:
            return []
        again: list[tuple[SessionKey, Pin]] = []
        for _ in range(min(SETTLE_LOOKS_MAX, len(self._unsettled))):
            if len(again) >= SETTLE_BATCH_MAX:
                break
            key, looks = self._unsettled.popitem(last=False)
            pin = self._replica.stored(key)
            if pin is not None and pin.is_live(now) and pin.rank is Rank.PROVISIONAL:
                self._unsettled[key] = looks + 1
                if looks >= SETTLE_FOR_OTHERS_LOOKS or self._is_mine(key, pin):
                    again.append((key, pin))
        self._settle_at = now + SETTLE_EVERY_S if self._unsettled else None
        return again

    def _is_mine(self, key: SessionKey, pin: Pin) -> bool:
        """Whether this node has a provisional pin agreed on: its maker, and the home of its key."""
        name = self._standing.name
        return name in (pin.claimer, self._standing.holders(key)[0])
