"""What this node, as home, has proposed to a backup without learning what became of it.

Owns those pins. Must not know views or peers.

The backup may hold such a pin, and then home and backup have agreed on it, although the home
never heard the answer. So as long as nothing later is known of the key, this node supports no
other pin of the same epoch: as home it proposes the same one again, and as backup of another
home it names that one instead.

Spec: protocol/spec/pins.md, "Claims".
"""

from collections import OrderedDict

from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.replica import Replica
from meshlb.model import SessionKey

TRIED_S = 600.0
"""How long a pin is remembered; a backup that held it for longer was paused for that long."""

TRIED_MAX = 65_536
"""Beyond, the oldest is forgotten."""


class Tried:
    """The latest proposal for each key, until it is settled."""

    def __init__(self, replica: Replica, *, pins_max: int = TRIED_MAX) -> None:
        self._replica = replica
        self._pins_max = pins_max
        # Not a dict: finding the first key of one that is emptied from the front is not O(1).
        self._tried: OrderedDict[SessionKey, tuple[Pin, float]] = OrderedDict()

    def __len__(self) -> int:
        """Pins remembered."""
        return len(self._tried)

    def add(self, key: SessionKey, pin: Pin, now: float) -> None:
        """This node is about to propose `pin`."""
        self._tried.pop(key, None)
        self._tried[key] = (pin, now + TRIED_S)
        while len(self._tried) > self._pins_max or next(iter(self._tried.values()))[1] <= now:
            self._tried.popitem(last=False)

    def settle(self, key: SessionKey) -> None:
        """It is known what became of the proposal."""
        self._tried.pop(key, None)

    def get(self, key: SessionKey, now: float) -> Pin | None:
        """The pin that a backup may hold by this node's word; None where that is settled."""
        if key not in self._tried:
            return None
        pin, until = self._tried[key]
        known = self._replica.stored(key)
        is_settled = known is not None and (known.epoch, known.rank) >= (pin.epoch, pin.rank)
        if is_settled or until <= now or pin.expires_at <= now:
            del self._tried[key]
            return None
        return pin
