"""What has happened so far, and how the clients fared: the demo's memory. No I/O, no rendering."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

EVENTS_MAX: Final = 200
LOSSES_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the story; `tone` is `good`, `bad`, `plain` or `quiet`."""

    at_s: float
    text: str
    tone: str


class Story:
    """The latest events; each is also passed to `listener`, for a terminal that cannot redraw."""

    def __init__(self, clock: Callable[[], float], listener: Callable[[Event], None]) -> None:
        self._clock = clock
        self._listener = listener
        self.events: deque[Event] = deque(maxlen=EVENTS_MAX)

    def tell(self, text: str, tone: str = "plain") -> None:
        """Add an event that happened now."""
        event = Event(self._clock(), text, tone)
        self.events.append(event)
        self._listener(event)


@dataclass(slots=True)
class Score:
    """How the clients fared; the demo succeeds while `losses` is empty."""

    connected: int = 0
    """Clients that are connected now."""
    connections: int = 0
    dropped: int = 0
    """Connections that ended unasked."""
    returns: int = 0
    """Reconnections of clients that had a backend."""
    through_another_node: int = 0
    kept: int = 0
    """Returns to the same process, with everything remembered."""
    moved: int = 0
    """Returns to another process, because the former one is gone."""
    asked: int = 0
    """Requests to a random node beside an open WebSocket, answered by the same backend."""
    said: int = 0
    longest_absence_s: float = 0.0
    losses: list[str] = field(default_factory=list)
    """Each time that a client lost its backend without cause."""

    def lose(self, what: str) -> None:
        """Note a loss without cause."""
        if len(self.losses) < LOSSES_MAX:
            self.losses.append(what)
