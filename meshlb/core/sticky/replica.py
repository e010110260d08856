"""This node's copy of the stick table: what every write goes through, and the overrides.

Owns the rules that need a table and the time: merging with dead pins, planting, touching,
unpinning, and the node-local overrides. Must not know peers, homes or how pins are stored.

A *dead* record (an expired pin, or a tombstone past its grace) counts as no record at all when a
live one arrives, or is there, whatever their epochs: others may have forgotten it already, and
made a pin from nothing. Otherwise `merge` decides alone.

An *override* takes the place of a pin on this node only and for a while: its backend is unusable,
but this node may not, or could not, have the pin moved. It ends when the pin moves after all.

Spec: protocol/spec/pins.md, "Replica".
"""

from dataclasses import dataclass
from typing import Protocol

from meshlb.core.sticky.lifetime import fresh, touched
from meshlb.core.sticky.merge import is_conflict, merge, same_pin, tombstone, with_lifetime
from meshlb.core.sticky.pin import Pin, Proposal, is_acceptable, pin_from_record
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import SessionKey
from meshlb.wire.messages import PinRecord

JITTER_S = 0.1
"""A lifetime that differs by less is the same: each delivery adds the time it took."""

OVERRIDES_MAX = 65_536
"""Beyond, the oldest override ends early: its key is then looked at anew."""

OVERRIDE_S = 5.0
"""In a majority: until the cluster should have come round to moving the pin."""

OVERRIDE_MINORITY_S = 600.0
"""In a minority: the pins must stay as they are until the heal, which ends all overrides."""


class PinStore(Protocol):
    """Where pins are kept: LMDB in production, a dict in tests."""

    def get(self, key: SessionKey) -> Pin | None:
        """The record of `key`, whatever it is: a pin, an expired one, a tombstone."""
        ...

    def put(self, key: SessionKey, pin: Pin) -> None:
        """Keep `pin` as the record of `key`; seen by the next `get`."""
        ...


@dataclass(frozen=True, slots=True)
class _Override:
    pin: Pin
    over_epoch: int
    """The epoch of the pin that it stands in for."""


class Replica:
    """The stick table of one node; `now` is table time throughout."""

    def __init__(
        self, store: PinStore, standing: Standing, stamps: StampClock, counters: ClaimCounters
    ) -> None:
        self._store = store
        self._standing = standing
        self._stamps = stamps
        self._counters = counters
        self._overrides: dict[SessionKey, _Override] = {}

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        """The pin to route by: live, no tombstone, and an override before the table's."""
        if self._overrides and (override := self._overrides.get(key)) is not None:
            if override.pin.expires_at > now:
                return override.pin
            del self._overrides[key]
        pin = self._store.get(key)
        if pin is None or pin.expires_at <= now or not pin.backend:
            return None
        return pin

    def record(self, key: SessionKey, now: float) -> Pin | None:
        """What is known of `key`: an override, a pin, an expired one, or a tombstone."""
        if self._overrides and (override := self._overrides.get(key)) is not None:
            if override.pin.expires_at > now:
                return override.pin
            del self._overrides[key]
        return self._store.get(key)

    def stored(self, key: SessionKey) -> Pin | None:
        """What the table holds of `key`, overrides aside."""
        return self._store.get(key)

    # Writing -----------------------------------------------------------------------------

    def merge(self, key: SessionKey, theirs: Pin, now: float) -> Pin | None:
        """Take `theirs` into account; the new record of `key` where that changed the table."""
        mine = self._store.get(key)
        if mine is None:
            self._store.put(key, theirs)
            return theirs
        if mine.expires_at <= now < theirs.expires_at:
            winner = theirs
        elif theirs.expires_at <= now < mine.expires_at:
            return None
        else:
            winner = merge(mine, theirs)
            self._note(mine, theirs, winner, now)
        if winner is mine or _differs_by_jitter(mine, winner):
            return None
        self._store.put(key, winner)
        self._end_override(key, winner)
        return winner

    def merge_record(self, record: PinRecord, now: float) -> Pin | None:
        """Take a peer's record into account; the new one of its key where the table changed."""
        return self.merge_told(record.key, pin_from_record(record, now=now), now)

    def merge_told(self, key: SessionKey, theirs: Pin, now: float) -> Pin | None:
        """The same with the pin that the record has become."""
        if not is_acceptable(theirs):
            self._counters.refused += 1
            return None
        self._stamps.observe(theirs.stamp_ms, now)
        return self.merge(key, theirs, now)

    def _note(self, mine: Pin, theirs: Pin, winner: Pin, now: float) -> None:
        if mine.backend == theirs.backend or mine.expires_at <= now or theirs.expires_at <= now:
            return
        if is_conflict(mine, theirs):
            self._counters.conflicts += 1
        if winner is theirs and mine.backend and theirs.backend:
            self._counters.moved += 1

    def plant(self, proposal: Proposal, *, epoch: int, now: float) -> tuple[Pin, bool]:
        """Pin a key that nobody can be claiming; see `StickTable.plant`.

        Returns:
            The pin of the key (which may be a newer one, or a tombstone), and whether it is new
            here and has to be replicated.
        """
        known = self._store.get(proposal.key)
        if known is not None and known.expires_at > now and known.epoch >= epoch:
            return known, False
        expires_at, ends_at = fresh(proposal, now)
        pin = Pin(
            proposal.pool,
            proposal.backend,
            proposal.by,
            epoch,
            self._standing.rank,
            self._stamps.draw(now),
            self._standing.name,
            expires_at,
            ends_at,
        )
        return pin, self.merge(proposal.key, pin, now) is not None

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float, now: float) -> Pin | None:
        """Note a use of `pin`; the pin to replicate, None where there is nothing to tell."""
        extended = touched(pin, ttl_s, now)
        if extended is None:
            return None
        known = self._store.get(key)
        if known is None or not same_pin(known, pin):
            return None
        return self.merge(key, extended, now)

    def unpin(self, key: SessionKey, now: float) -> Pin | None:
        """Put a tombstone in the place of a live pin; the tombstone, None if there is no pin."""
        self._overrides.pop(key, None)
        known = self._store.get(key)
        if known is None or not known.is_live(now):
            return None
        stamp_ms = self._stamps.draw(now)
        stone = tombstone(known, stamp_ms=stamp_ms, by=self._standing.name, now=now)
        self._store.put(key, stone)
        return stone

    # Overrides ---------------------------------------------------------------------------

    def override(self, key: SessionKey, pin: Pin, now: float) -> Pin:
        """Route `key` by `pin` on this node for a while; the pin as it is then used."""
        stored = self._store.get(key)
        while len(self._overrides) >= OVERRIDES_MAX and key not in self._overrides:
            del self._overrides[next(iter(self._overrides))]
        lasts_s = OVERRIDE_S if self._standing.quorate else OVERRIDE_MINORITY_S
        pin = with_lifetime(pin, expires_at=min(pin.expires_at, now + lasts_s), ends_at=pin.ends_at)
        self._overrides[key] = _Override(pin, stored.epoch if stored is not None else 0)
        return pin

    def drop_override(self, key: SessionKey) -> None:
        """The override of `key` is of no use either."""
        self._overrides.pop(key, None)

    def end_overrides(self) -> None:
        """The majority is back: every pin holds again, or is moved by agreement."""
        self._overrides.clear()

    def _end_override(self, key: SessionKey, winner: Pin) -> None:
        override = self._overrides.get(key)
        if override is not None and winner.epoch > override.over_epoch:
            del self._overrides[key]


def _differs_by_jitter(mine: Pin, winner: Pin) -> bool:
    return (
        winner.expires_at - mine.expires_at < JITTER_S
        and (mine.ends_at == winner.ends_at or mine.ends_at - winner.ends_at < JITTER_S)
        and same_pin(mine, winner)
    )
