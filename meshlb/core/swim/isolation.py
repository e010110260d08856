"""Whether this node hears nobody at all: then it is no majority, whatever it believes of others.

A node that is cut off from everybody gives the others up one after another, and slowly, for nobody
confirms what it suspects (see `suspicion`). It knows much sooner that it is alone: two of its
probes have failed, each by datagram, through helpers and by stream, and for as long as a suspicion
lasts no packet of anybody has come. Nobody is taken for dead for that reason, and the first packet
ends it.

Owns: since when nobody was heard. Must not know: who the others are.
Spec: protocol/spec/membership.md, "View", V5.
"""

import math
from typing import Final

from meshlb.core.swim.report import Reporter
from meshlb.core.swim.view import View

PROBES_FAILED_MIN: Final = 2
"""One may fail by chance, or because its target has crashed while nobody else had to speak."""


class Isolation:
    """One per node."""

    def __init__(self, view: View, reporter: Reporter, *, silence_s: float, now: float) -> None:
        """`silence_s`: how long nobody is heard before this node takes itself for cut off."""
        self._view = view
        self._reporter = reporter
        self._silence_s = silence_s
        self._silent_since = now
        self._failed = 0

    def heard(self, now: float) -> None:
        """An authentic packet came, from whomever."""
        self._silent_since, self._failed = now, 0
        if self._view.is_cut_off:
            self._view.is_cut_off = False
            self._reporter.review()

    def probe_failed(self) -> None:
        """Nobody has answered a probe, neither its target nor those who were to help."""
        self._failed += 1

    def postpone(self, lag_s: float) -> None:
        """This node was late by `lag_s`: packets may lie unread in a queue."""
        self._silent_since += lag_s

    def start_over(self, now: float) -> None:
        """This node stood still: that nobody was heard proves nothing."""
        self._silent_since, self._failed = now, 0

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do; infinity as things are."""
        is_possible = self._failed >= PROBES_FAILED_MIN and not self._view.is_cut_off
        return self._silent_since + self._silence_s if is_possible else math.inf

    def handle_timer(self, now: float) -> None:
        """Nobody was heard for too long, if it is time."""
        if now >= self.next_deadline():
            self._view.is_cut_off = True
            self._reporter.review()
