"""Acknowledgements of logs wait a moment for more of them.

They are cumulative and nobody is in a hurry for them but a member that leaves, while a frame wakes
its reader: two acknowledgements for each pin would be a quarter of what the agreement on it costs.

Owns whom to acknowledge, and when. Must not know positions. All times are table time.

Spec: protocol/spec/replication.md, R5.
"""

import math
from typing import Final

from meshlb.model import NodeName

ACK_S: Final = 0.05


class Acks:
    """One per node."""

    __slots__ = ("_due_at", "_peers")

    def __init__(self) -> None:
        self._peers: dict[NodeName, None] = {}
        self._due_at = math.inf

    def owe(self, peer: NodeName) -> None:
        """Something that `peer` has logged is merged here."""
        self._peers[peer] = None

    def drop(self, peer: NodeName) -> None:
        """The stream to `peer` is gone."""
        self._peers.pop(peer, None)
        if not self._peers:
            self._due_at = math.inf

    def due(self, now: float) -> list[NodeName]:
        """Whom to acknowledge now; asked at the end of each turn."""
        if not self._peers:
            return []
        self._due_at = min(self._due_at, now + ACK_S)
        if now < self._due_at:
            return []
        peers = list(self._peers)
        self._peers.clear()
        self._due_at = math.inf
        return peers

    def next_deadline(self) -> float:
        """When acknowledgements are due; infinity where none are."""
        return self._due_at
