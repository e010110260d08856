"""What this node, as home, has proposed to a backup without learning what became of it.

Owns those pins, and which of the requests that carried them are unanswered. Must not know views
or peers.

A backup that never answered may hold the pin, and then home and backup have agreed on it, though
the home does not know. So until something later is known of the key, this node supports no other
pin of the same epoch: as home it proposes that one again, and as backup of another home it names
that one instead, for the other home to propose. Once every backup that was asked has refused,
the pin is nowhere, and forgotten.

Spec: protocol/spec/pins.md, "Claims".
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.replica import Replica
from meshlb.model import SessionKey

TRIED_S = 600.0
"""How long a pin is remembered; a backup that held it for longer was paused for that long."""

TRIED_MAX = 65_536
"""Beyond, the oldest is forgotten."""


@dataclass(slots=True)
class _Trial:
    pin: Pin
    until: float
    unanswered: dict[int, int] = field(default_factory=dict)
    """By request, how often it was sent without an answer."""
    may_be_held: bool = False
    """A backup holds it, or another node has named it: no refusal changes that."""


class Tried:
    """The latest proposal for each key, until it is settled."""

    def __init__(self, replica: Replica, *, pins_max: int = TRIED_MAX) -> None:
        self._replica = replica
        self._pins_max = pins_max
        # Not a dict: finding the first key of one that is emptied from the front is not O(1).
        self._trials: OrderedDict[SessionKey, _Trial] = OrderedDict()
        self._keys: dict[int, SessionKey] = {}

    def __len__(self) -> int:
        """Pins remembered."""
        return len(self._trials)

    def ask(self, key: SessionKey, pin: Pin, request: int, now: float) -> None:
        """A backup is being asked, perhaps not for the first time, to hold `pin`."""
        trial = self._trial(key, pin, now)
        trial.unanswered[request] = trial.unanswered.get(request, 0) + 1
        self._keys[request] = key

    def adopt(self, key: SessionKey, pin: Pin, now: float) -> None:
        """The backup has named `pin`, which it may have agreed on with an earlier backup."""
        self._trial(key, pin, now).may_be_held = True

    def _trial(self, key: SessionKey, pin: Pin, now: float) -> _Trial:
        trial = self._trials.get(key)
        if trial is not None and (trial.pin.epoch, trial.pin.backend) == (pin.epoch, pin.backend):
            return trial
        self.settle(key)
        while self._trials and (
            len(self._trials) >= self._pins_max or next(iter(self._trials.values())).until <= now
        ):
            self.settle(next(iter(self._trials)))
        trial = self._trials[key] = _Trial(pin, now + TRIED_S)
        return trial

    def answered(self, request: int, *, is_held: bool) -> None:
        """The backup holds the pin of `request`, or has refused it."""
        key = self._keys.get(request)
        if key is None:
            return
        trial = self._trials[key]
        trial.may_be_held |= is_held
        trial.unanswered[request] -= 1
        if trial.unanswered[request] <= 0:
            del trial.unanswered[request], self._keys[request]
        if not trial.unanswered and not trial.may_be_held:
            del self._trials[key]

    def settle(self, key: SessionKey) -> None:
        """It is known what became of the proposal."""
        trial = self._trials.pop(key, None)
        if trial is not None:
            for request in trial.unanswered:
                del self._keys[request]

    def get(self, key: SessionKey, now: float) -> Pin | None:
        """The pin that a backup may hold by this node's word; None where that is settled."""
        trial = self._trials.get(key)
        if trial is None:
            return None
        pin, known = trial.pin, self._replica.stored(key)
        is_settled = known is not None and (known.epoch, known.rank) >= (pin.epoch, pin.rank)
        if is_settled or trial.until <= now or pin.expires_at <= now:
            self.settle(key)
            return None
        return pin
