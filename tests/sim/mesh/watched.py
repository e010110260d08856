"""The deciding parts of a node, which show what they decide to whoever watches the process."""

from typing import TYPE_CHECKING

from meshlb.core.sticky.claims import ClaimMachine
from meshlb.core.sticky.events import Effect, Event, PeerMessages, Send
from meshlb.core.swim.events import Effect as SwimEffect
from meshlb.core.swim.events import Event as SwimEvent
from meshlb.core.swim.membership import Membership
from meshlb.wire.messages import ViewMark

if TYPE_CHECKING:
    from tests.sim.mesh.process import Process


class WatchedMembership(Membership):
    """Shows each effect to the watcher."""

    process: "Process"

    def receive(self, event: SwimEvent, now: float) -> list[SwimEffect]:
        return self._shown(super().receive(event, now))

    def handle_timer(self, now: float) -> list[SwimEffect]:
        return self._shown(super().handle_timer(now))

    def _shown(self, effects: list[SwimEffect]) -> list[SwimEffect]:
        self.process.watcher.membership(self.process, effects)
        return effects


class WatchedClaims(ClaimMachine):
    """Shows each decision when it is made; what it says leaves with the next turn."""

    process: "Process"

    def receive(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, PeerMessages):
            for message in event.messages:
                if isinstance(message, ViewMark):
                    self.process.watcher.marked(self.process, event.sender, message.view_id)
        return self._shown(super().receive(event, now))

    def handle_timer(self, now: float) -> list[Effect]:
        return self._shown(super().handle_timer(now))

    def _shown(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Send):
                self.process.watcher.said(self.process, effect.peer, effect.message)
        return effects
