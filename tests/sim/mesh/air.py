"""The network between hosts: what is cut, lost, doubled, late.

Owns: the fate of a datagram, and the delay of a segment on a stream. Must not know: who sends
what, or what a stream is.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from meshlb.model import NodeName

Way = tuple[NodeName, NodeName]
"""From the first to the second; the other way is another one."""

RETRANSMIT_FIRST_S = 0.2
"""Linux's least retransmission time-out; doubled with each loss of the same segment."""

RETRANSMITS_MAX = 5


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How bad the network is everywhere. Delays are one way, in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: float = 0.0003
    """Mean; each packet draws its own, so datagrams overtake each other."""


CALM = Weather()


class Air:
    """Between any two hosts."""

    def __init__(self, rng: Random) -> None:
        self.weather = CALM
        self._rng = rng
        self._cuts: Counter[Way] = Counter()
        self._slowness: dict[Way, float] = {}

    # What faults do.

    def cut(self, ways: Iterable[Way]) -> None:
        """Nothing passes on these ways; cuts of one way add up."""
        self._cuts.update(ways)

    def mend(self, ways: Iterable[Way]) -> None:
        """Undo one `cut`."""
        self._cuts.subtract(ways)

    def slow(self, way: Way, delay_s: float) -> None:
        """All that goes this way is late by as much; 0 undoes it."""
        self._slowness[way] = delay_s

    def clear_up(self) -> None:
        """Undo everything."""
        self._cuts.clear()
        self._slowness.clear()
        self.weather = CALM

    # What becomes of packets.

    def passes(self, sender: NodeName, receiver: NodeName) -> bool:
        """Whether anything can pass this way now."""
        return self._cuts[sender, receiver] <= 0

    def datagram_delays(self, sender: NodeName, receiver: NodeName) -> list[float]:
        """When copies of a datagram arrive: none if it is lost, two if it is doubled."""
        weather, rng = self.weather, self._rng
        if self._cuts[sender, receiver] > 0 or (weather.loss and rng.random() < weather.loss):
            return []
        if weather.duplication and rng.random() < weather.duplication:
            return [self._delay_s(sender, receiver), 5 * self._delay_s(sender, receiver)]
        return [self._delay_s(sender, receiver)]

    def segment_delay(self, sender: NodeName, receiver: NodeName) -> float:
        """How long a segment takes, lost copies of it included; the way is not cut."""
        delay_s = self._delay_s(sender, receiver)
        wait_s = RETRANSMIT_FIRST_S
        loss = self.weather.loss
        for _ in range(RETRANSMITS_MAX if loss else 0):
            if self._rng.random() >= loss:
                break
            delay_s += wait_s
            wait_s *= 2
        return delay_s

    def _delay_s(self, sender: NodeName, receiver: NodeName) -> float:
        mean_s = self.weather.delay_s
        return self._slowness.get((sender, receiver), 0.0) + self._rng.expovariate(1 / mean_s)
