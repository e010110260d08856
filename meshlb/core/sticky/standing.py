"""Where this node stands: its name, its view of the owners, and whom it can reach.

Owns what the three roles of a claim share about the cluster. Must not know pins or requests.

Spec: protocol/spec/pins.md, "Claims".
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.homes import Holders, Homes
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import Rank

PATIENCE_S = 0.1
"""How long a peer may be silent before the claim goes on without it."""

PATIENCE_DOUBTED_S = 0.02
"""The same for a peer without a stream, time enough for one that is just being replaced; and for
a suspected one, time enough for an answer if the suspicion is wrong."""

RETRY_S = 0.02
"""When to ask again who has answered FENCED or NOT_READY: views need a moment to agree."""


@dataclass(slots=True)
class ClaimCounters:
    """What has happened so far, for the metrics."""

    conflicts: int = 0
    """Keys seen with two agreed backends in one epoch; stays 0 short of a double fault."""
    moved: int = 0
    """Live pins whose backend another one's pin has replaced."""
    provisional: int = 0
    """Claims that were answered without agreement."""
    hedged: int = 0
    """Claims that went to the backup as well, because their home was silent."""
    overflowed: int = 0
    """Claims that found a table full, and were answered without agreement for that reason."""
    fenced: int = 0
    """Claims and replications refused because the views disagreed."""
    announced: int = 0
    """Pins that the backup announced in place of their home."""
    refused: int = 0
    """Records that no honest member sends."""


class Life(NamedTuple):
    """A peer between two of its restarts; in a restart it forgets what it holds as a backup."""

    name: NodeName
    boot_id: BootId


@dataclass(slots=True)
class Standing:
    """This node and its ownership view."""

    name: NodeName
    barrier: Barrier
    homes: Homes = field(default_factory=lambda: Homes(()))
    view_id: int = 0
    quorate: bool = False
    lives: dict[NodeName, Life] = field(default_factory=dict)
    """The peers with a stream."""
    suspects: frozenset[NodeName] = frozenset()
    """Members that may be dead."""
    last_request: int = 0

    @property
    def rank(self) -> Rank:
        """What the pins of this view are worth."""
        return Rank.QUORATE if self.quorate else Rank.MINORITY

    def holders(self, key: SessionKey) -> Holders:
        """Home and backup of a key by this view."""
        return self.homes.holders(key)

    def patience_s(self, peer: NodeName) -> float:
        """How long to wait for a word of `peer`."""
        is_doubted = peer in self.suspects or not self.is_linked(peer)
        return PATIENCE_DOUBTED_S if is_doubted else PATIENCE_S

    def is_linked(self, peer: NodeName) -> bool:
        """True where a message to `peer` may arrive."""
        return peer in self.lives or peer == self.name

    def life(self, peer: NodeName) -> Life:
        """Whom a message to `peer`, which is linked, goes to."""
        return self.lives[peer]

    def next_request(self) -> int:
        """A number that this node has not used for a request since it started."""
        self.last_request += 1
        return self.last_request
