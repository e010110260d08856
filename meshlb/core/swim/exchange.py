"""The whole view, told on each new stream and to a random peer from time to time.

The safety net under gossip: what no packet has carried reaches everybody this way.

Owns: when the view is exchanged. Must not know: what a member does with it.
Spec: protocol/spec/membership.md, "Dissemination", D3.
"""

from typing import TYPE_CHECKING

from meshlb.core.swim.outbox import Outbox, ReturnPath
from meshlb.core.swim.timings import Timings
from meshlb.core.swim.view import View
from meshlb.model import NodeName
from meshlb.wire.messages import PushPull

if TYPE_CHECKING:
    from random import Random


class Exchange:
    """One per node."""

    def __init__(
        self, view: View, outbox: Outbox, timings: Timings, rng: "Random", now: float
    ) -> None:
        self._view = view
        self._outbox = outbox
        self._timings = timings
        self._rng = rng
        self._due_at = now + self._wait_s()

    def tell(self, peer: NodeName, *, wants_reply: bool) -> None:
        """Send the view to `peer` on its stream; by its answer, this node learns that of `peer`."""
        members = tuple(member.update() for member in self._view.all())
        self._outbox.answer(ReturnPath(peer, None), PushPull(members, wants_reply))

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do."""
        return self._due_at

    def handle_timer(self, now: float) -> None:
        """Exchange views with one peer if it is time, and forget who left long ago."""
        if now < self._due_at:
            return
        self._due_at = now + self._wait_s()
        self._view.forget_left(since_before=now - self._timings.left_kept_s)
        if self._outbox.streams:
            self.tell(self._rng.choice(list(self._outbox.streams)), wants_reply=True)

    def _wait_s(self) -> float:
        """Drawn around the mean, so that members do not exchange in step."""
        return self._timings.push_pull_for(self._view.live_count()) * self._rng.uniform(0.5, 1.5)
