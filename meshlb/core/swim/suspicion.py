"""Suspicions: how long a suspect has to refute, and when it is given up.

A suspicion begins with one accuser and the long time-out. Every further accuser shortens it,
by the logarithm, down to the short one (Lifeguard): a node whose own network is ill accuses
alone and has to wait. A suspect that was heard from meanwhile is given one more chance, with a
new probe, before silence counts; only one, since it may be able to send but not to receive.

Owns: the pending suspicions and their deadlines.
Must not know: messages, the view. Spec: protocol/spec/membership.md, "Suspicion".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from meshlb.core.swim.timings import Timings
from meshlb.model import NodeName

CONFIRMATIONS_MAX: Final = 3
"""Accusers beyond the first that still shorten a suspicion; more are neither kept nor told on."""


@dataclass(slots=True)
class _Suspicion:
    started_at: float
    accusers: dict[NodeName, None] = field(default_factory=dict)
    heard: bool = False
    """A packet of the suspect came since `started_at`."""
    reprieved: bool = False


class Suspicions:
    """The suspects of this node; at most one suspicion per member of the view."""

    def __init__(self, timings: Timings, members: Callable[[], int]) -> None:
        self._timings = timings
        self._members = members
        """Live members, this node and the suspects included."""
        self._pending: dict[NodeName, _Suspicion] = {}

    def __contains__(self, name: NodeName) -> bool:
        return name in self._pending

    def accuse(self, suspect: NodeName, accuser: NodeName, now: float) -> bool:
        """Begin or confirm a suspicion; whether the accusation is worth telling on."""
        suspicion = self._pending.get(suspect)
        if suspicion is None:
            self._pending[suspect] = _Suspicion(now, {accuser: None})
            return True
        if accuser in suspicion.accusers or len(suspicion.accusers) > CONFIRMATIONS_MAX:
            return False
        suspicion.accusers[accuser] = None
        return True

    def restart(self, suspect: NodeName, accuser: NodeName, now: float) -> None:
        """A newer life of `suspect` is accused: what was known of the older one is void."""
        self._pending[suspect] = _Suspicion(now, {accuser: None})

    def clear(self, suspect: NodeName) -> None:
        """The suspect refuted, died or left."""
        self._pending.pop(suspect, None)

    def heard_from(self, suspect: NodeName) -> None:
        """A packet of `suspect` came."""
        if suspicion := self._pending.get(suspect):
            suspicion.heard = True

    def is_silent(self, suspect: NodeName) -> bool:
        """Whether `suspect` is suspected and nothing was heard from it since."""
        suspicion = self._pending.get(suspect)
        return suspicion is not None and not suspicion.heard

    def next_deadline(self) -> float:
        """When the next suspicion runs out; infinity where there is none."""
        return min((self._deadline(s) for s in self._pending.values()), default=math.inf)

    def take_expired(self, now: float) -> tuple[list[NodeName], list[NodeName]]:
        """The suspects to give up, and those to probe once more; the former are forgotten."""
        given_up: list[NodeName] = []
        reprieved: list[NodeName] = []
        for name, suspicion in self._pending.items():
            if self._deadline(suspicion) > now:
                continue
            if suspicion.heard and not suspicion.reprieved:
                suspicion.started_at, suspicion.heard, suspicion.reprieved = now, False, True
                reprieved.append(name)
            else:
                given_up.append(name)
        for name in given_up:
            del self._pending[name]
        return given_up, reprieved

    def postpone(self, lag_s: float) -> None:
        """This node was late by `lag_s`: refutations may lie unread in a queue."""
        for suspicion in self._pending.values():
            suspicion.started_at += lag_s

    def start_over(self, me: NodeName, now: float) -> list[NodeName]:
        """This node stood still: doubt everybody anew, with no accuser but `me`."""
        for name in self._pending:
            self._pending[name] = _Suspicion(now, {me: None})
        return list(self._pending)

    def _deadline(self, suspicion: _Suspicion) -> float:
        members = self._members()
        shortest_s = self._timings.suspicion_for(members)
        longest_s = shortest_s * self._timings.suspicion_stretch
        # Those who could still confirm: the live ones but this node and all its suspects.
        needed = min(CONFIRMATIONS_MAX, max(0, members - 1 - len(self._pending)))
        given = min(len(suspicion.accusers) - 1, needed)
        share = math.log(given + 1) / math.log(needed + 1) if needed else 1.0
        return suspicion.started_at + longest_s - (longest_s - shortest_s) * share
