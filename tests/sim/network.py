"""A model of the network: what is lost, late, doubled or cut, drawn from one generator.

Owns: the fate of a datagram and of a message on a stream. Must not know: who sends what.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

RETRANSMIT_FIRST_S = 0.2
"""Linux's least retransmission time-out; doubled with each loss of the same segment."""

RETRANSMITS_MAX = 8


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How bad the network is. Delays are one way, in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_min_s: float = 0.0001
    delay_max_s: float = 0.001


class Network:
    """Decides the fate of everything that is sent between two names."""

    def __init__(self, weather: Weather, rng: Random) -> None:
        self.weather = weather
        self._rng = rng
        self._islands: dict[str, int] = {}
        self._deaf: set[str] = set()
        self._stream_free_at: dict[tuple[str, str], float] = {}

    def part(self, *islands: Collection[str]) -> None:
        """Cut the network: names of different islands do not reach each other."""
        self._islands = {name: i for i, island in enumerate(islands) for name in island}

    def heal(self) -> None:
        """Undo `part`."""
        self._islands = {}

    def deafen(self, name: str) -> None:
        """Let nothing reach `name` any more; what it sends still arrives."""
        self._deaf.add(name)

    def reaches(self, sender: str, receiver: str) -> bool:
        """Whether anything can pass between the two."""
        return receiver not in self._deaf and (
            self._islands.get(sender) == self._islands.get(receiver)
        )

    def datagram_delays(self, sender: str, receiver: str) -> list[float]:
        """When copies of a datagram arrive: none if it is lost, two if it is doubled."""
        if not self.reaches(sender, receiver) or self._rng.random() < self.weather.loss:
            return []
        copies = 2 if self._rng.random() < self.weather.duplication else 1
        return [self._delay_s() for _ in range(copies)]

    def stream_delay(self, sender: str, receiver: str, now: float) -> float:
        """When a message on a stream arrives: late after losses, never before an earlier one.

        What cannot pass is lost, infinitely late: an open stream is cut by `Cluster`, not here.
        """
        if not self.reaches(sender, receiver):
            return math.inf
        wait_s = RETRANSMIT_FIRST_S
        arrives_at = now + self._delay_s()
        for _ in range(RETRANSMITS_MAX):
            if self._rng.random() >= self.weather.loss:
                break
            arrives_at += wait_s
            wait_s *= 2
        arrives_at = max(arrives_at, self._stream_free_at.get((sender, receiver), 0.0))
        self._stream_free_at[sender, receiver] = arrives_at
        return arrives_at - now

    def _delay_s(self) -> float:
        return self._rng.uniform(self.weather.delay_min_s, self.weather.delay_max_s)
