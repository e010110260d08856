"""Virtual time: a heap of calls, one seed, one trace.

Owns: time, order, the generators of chance, and the trace. Must not know: nodes, networks, faults.

Chance is split into streams by purpose, so that a fault which is left out (when a failing plan is
shrunk) does not change what the clients do.
"""

import hashlib
import heapq
from collections.abc import Callable
from random import Random

STEPS_MAX = 80_000
"""Far above what a run takes; more is a storm, in which nodes keep each other busy."""

TRACE_LINES_MAX = 4_000
"""Of a detailed trace, the last lines are kept."""


class Storm(Exception):  # noqa: N818 - what is found, not an error
    """Too much happens."""


class World:
    """Runs calls in the order of their time; of one time, in the order of being asked for."""

    def __init__(self, seed: int, *, is_detailed: bool = False) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self.steps_max = STEPS_MAX
        self.is_detailed = is_detailed
        self.lines: list[str] = []
        self._digest = hashlib.blake2b(digest_size=16)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def chance(self, purpose: str) -> Random:
        """A generator of its own for one purpose."""
        return Random(f"{self.seed}/{purpose}")

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call `call` at that time, or now if it has passed."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, call))

    def run(self, until: float) -> None:
        """Run to that time."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call = heapq.heappop(heap)
            self.steps += 1
            if self.steps > self.steps_max:
                raise Storm
            call()
        self.now = until

    # The trace.

    def note(self, who: str, what: str, *details: object) -> None:
        """An event, for the trace; `details` are turned into text only where somebody reads it."""
        self._digest.update(f"{self.now:.9f} {who} {what}\n".encode())
        if self.is_detailed:
            shown = " ".join(map(str, details))
            self.lines.append(f"{self.now:9.4f} {who:>4} {what} {shown}")
            del self.lines[:-TRACE_LINES_MAX]

    def trace_digest(self) -> str:
        """Equal for two runs that went alike."""
        return self._digest.hexdigest()
