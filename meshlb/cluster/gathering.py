"""In a large cluster, what is told to all peers waits a moment for more of it.

Every member has a stream to every other one, and a pin has to reach them all. One frame for each
pin and peer is fastest for a few peers; with many, a node would spend its time on frames. So
above `PEERS_AT_ONCE_MAX` peers the log goes out `GATHER_S` after it went out last, whatever came
meanwhile in one frame to each. What has been quiet goes out at once, and so does all that a
message to one peer must not overtake.

Owns when to wait. Must not know what is told. All times are table time.

Spec: protocol/spec/replication.md, R3.
"""

import math
from typing import Final

PEERS_AT_ONCE_MAX: Final = 32

GATHER_S: Final = 0.02
"""By so much later a pin is seen by members that have not asked for it."""


class Gathering:
    """One per node."""

    def __init__(self) -> None:
        self._let_out_at = -math.inf
        self._due_at = math.inf

    def holds_back(self, peers: int, now: float, *, has_news: bool) -> bool:
        """Whether to wait; asked each time that something could go out to so many `peers`."""
        if peers > PEERS_AT_ONCE_MAX and now < self._let_out_at + GATHER_S:
            if has_news:
                self._due_at = self._let_out_at + GATHER_S
            return True
        if has_news:
            self._let_out_at = now
        self._due_at = math.inf
        return False

    def next_deadline(self) -> float:
        """When what is held back is to go out; infinity where nothing is."""
        return self._due_at
