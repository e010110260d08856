"""The helper's side of an indirect probe: ping for another member, pass on the answer.

Owns: the pings made for others. Must not know: why they ask.
Spec: protocol/spec/membership.md, "Probe".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from meshlb.core.swim.outbox import Outbox, ReturnPath
from meshlb.core.swim.timings import Timings
from meshlb.model import NodeName
from meshlb.wire.messages import Ack, Nack, Ping, PingRequest

RELAYS_MAX: Final = 256
"""Pings under way for others; a request beyond that is dropped, as the network may do too."""


@dataclass(frozen=True, slots=True)
class _Relayed:
    request: PingRequest
    asker: ReturnPath
    expires_at: float


class Relay:
    """Pings for others, by our own sequence number, the oldest first."""

    def __init__(self, *, outbox: Outbox, timings: Timings, sequence: Iterator[int]) -> None:
        self._outbox = outbox
        self._timings = timings
        self._sequence = sequence
        self._relayed: dict[int, _Relayed] = {}

    def __len__(self) -> int:
        return len(self._relayed)

    def requested(self, request: PingRequest, asker: ReturnPath, now: float) -> None:
        """Ping `request.target` for `asker`."""
        if len(self._relayed) >= RELAYS_MAX:
            return
        seq = next(self._sequence)
        expires_at = now + self._timings.ping_timeout_s
        self._relayed[seq] = _Relayed(request, asker, expires_at)
        self._outbox.datagram(request.address, request.target, Ping(seq, request.target))

    def acked(self, seq: int, sender: NodeName) -> None:
        """An Ack came; if it is for a relayed ping, its asker gets one too."""
        relayed = self._relayed.get(seq)
        if relayed is not None and relayed.request.target == sender:
            del self._relayed[seq]
            self._outbox.answer(relayed.asker, Ack(relayed.request.seq))

    def next_deadline(self) -> float:
        """When the oldest ping has taken too long; infinity where there is none."""
        return next((r.expires_at for r in self._relayed.values()), float("inf"))

    def expire(self, now: float) -> None:
        """Tell those who asked that the target is silent."""
        for seq, relayed in list(self._relayed.items()):
            if relayed.expires_at > now:
                break
            del self._relayed[seq]
            self._outbox.answer(relayed.asker, Nack(relayed.request.seq))

    def clear(self) -> None:
        """This node stood still: nobody waits for these answers any more."""
        self._relayed.clear()
