"""Table time: the clock by which a node's pins expire.

Owns the one reading of the wall clock: wall-clock seconds at the start plus the monotonic seconds
since. It never jumps while the process lives, and is comparable across restarts of the node.
"""

import time

import trio


class TableClock:
    """Made inside a running trio loop, whose clock it follows."""

    __slots__ = ("_ahead_s",)

    def __init__(self) -> None:
        self._ahead_s = time.time() - trio.current_time()

    def now(self) -> float:
        """Table time in seconds."""
        return trio.current_time() + self._ahead_s

    def monotonic(self, table_time: float) -> float:
        """The reading of trio's clock at `table_time`."""
        return table_time - self._ahead_s
