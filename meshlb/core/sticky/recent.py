"""What each peer has told this node lately, in case its crash cut off the same word to others.

Owns a short list of keys per peer. Must not know what a pin is.

A peer that crashes has sent the end of its log to some and not to others. So whoever received it
*announces* it when that peer leaves the view, before the new view is marked. Lately means: within
a moment before the peer's last word, however long ago that was.

Spec: protocol/spec/pins.md, "Barrier".
"""

from collections import deque

from meshlb.model import NodeName, SessionKey

RECENT_S = 0.5
"""How far apart the deliveries of one log entry to two peers may be; far above a stream's delay."""

RECENT_KEYS_MAX = 8_192
"""Keys remembered per peer; of more, the oldest are left to the repair by digests."""


class Recent:
    """The keys, per peer, oldest first."""

    def __init__(self, *, keys_max: int = RECENT_KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._by_peer: dict[NodeName, deque[tuple[float, SessionKey]]] = {}

    def hear(self, peer: NodeName, key: SessionKey, now: float) -> None:
        """`peer` has told of `key`."""
        told = self._by_peer.get(peer)
        if told is None:
            told = self._by_peer[peer] = deque(maxlen=self._keys_max)
        told.append((now, key))
        while told[0][0] < now - RECENT_S:
            told.popleft()

    def release(self, owners: frozenset[NodeName]) -> list[SessionKey]:
        """Forgets the peers that are no owners: the keys they told of last."""
        gone = [peer for peer in self._by_peer if peer not in owners]
        return [key for peer in gone for _, key in self._by_peer.pop(peer)]
