"""What this node, as home, has proposed to a backup without learning what became of it.

Owns those pins, and which of the requests that carried them are unanswered. Must not know views
or peers.

A backup that never answered may hold the pin, and then home and backup have agreed on it, though
the home does not know. So until something later is known of the key, this node supports no other
pin of the same epoch: as home it proposes that one again, and as backup of another home it names
that one instead, for the other home to propose. Once every backup that was asked has refused,
the pin is nowhere, and forgotten. Who names another pin holds nothing of what it was asked before,
on earlier streams either; who refuses for another reason may have let go of it meanwhile.

Spec: protocol/spec/pins.md, "Claims".
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.standing import Life
from meshlb.model import SessionKey
from meshlb.wire.messages import Verdict

TRIED_S = 600.0
"""How long a pin is remembered; a backup that held it for longer was paused for that long."""

TRIED_MAX = 65_536
"""Beyond, the oldest is forgotten."""

UNANSWERED_MAX = 16
"""Requests without an answer for one pin; beyond, who was asked first is taken to hold it."""


@dataclass(slots=True)
class _Trial:
    pin: Pin
    until: float
    unanswered: dict[int, Life] = field(default_factory=dict)
    """Who was asked, by request."""
    holders: frozenset[Life | None] = frozenset()
    """Backups that hold it; None is whoever it was that made another node name it."""


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

    def ask(self, key: SessionKey, pin: Pin, request: int, backup: Life, now: float) -> None:
        """`backup` is being asked to hold `pin`, by a request of its own."""
        trial = self._trial(key, pin, now)
        if len(trial.unanswered) >= UNANSWERED_MAX:
            first = next(iter(trial.unanswered))
            trial.holders |= {trial.unanswered.pop(first)}
            del self._keys[first]
        trial.unanswered[request] = backup
        self._keys[request] = key

    def heed(self, key: SessionKey, pin: Pin, now: float) -> None:
        """The backup has named `pin`, which it may have agreed on with an earlier backup.

        What this node has tried itself stays, but stamped earlier than `pin`: by that the backup
        sees that this node has heard of `pin` and stands by its own.
        """
        mine = self.get(key, now)
        if mine is None or mine.epoch < pin.epoch or mine.backend == pin.backend:
            self._trial(key, pin, now).holders |= {None}
        elif mine.stamp_ms >= pin.stamp_ms:
            self._trials[key].pin = replace(mine, stamp_ms=max(0, pin.stamp_ms - 1))

    def _trial(self, key: SessionKey, pin: Pin, now: float) -> _Trial:
        trial = self._trials.get(key)
        if trial is not None and (trial.pin.epoch, trial.pin.backend) == (pin.epoch, pin.backend):
            if trial.pin.rank < pin.rank:
                trial.pin = pin
            return trial
        self.settle(key)
        while self._trials and (
            len(self._trials) >= self._pins_max or next(iter(self._trials.values())).until <= now
        ):
            self.settle(next(iter(self._trials)))
        trial = self._trials[key] = _Trial(pin, now + TRIED_S)
        return trial

    def answered(self, request: int, verdict: Verdict) -> None:
        """The backup holds the pin of `request`, names another one, or has refused it."""
        key = self._keys.get(request)
        if key is None:
            return
        trial = self._trials[key]
        backup = trial.unanswered[request]
        over = [request]
        if verdict is Verdict.EXISTS:
            over = [n for n, asked in trial.unanswered.items() if asked == backup and n <= request]
            trial.holders -= {backup}
        elif verdict is Verdict.DONE:
            trial.holders |= {backup}
        for number in over:
            del trial.unanswered[number], self._keys[number]
        if not trial.unanswered and not trial.holders:
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
