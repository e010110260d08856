"""What a node counts about its mesh: plain ints, added to where it happens, read by the metrics.

Owns only the numbers and their names. Must not know Prometheus.
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class MeshCounters:
    """All since the start of the process, except `loop_lag_s` and `loop_lag_s_max`."""

    datagrams_received: int = 0
    """Authentic ones."""
    datagrams_sent: int = 0
    datagrams_unsent: int = 0
    """Dropped because the kernel did not take them."""
    datagrams_refused: Counter[str] = field(default_factory=Counter)
    """By reason: one of `meshlb.wire.seal.REFUSAL_REASONS`, `messages` or `unproven`."""
    messages_unknown: int = 0
    """Ignored, for only a later version of the protocol knows them."""
    links_opened: int = 0
    links_closed: Counter[str] = field(default_factory=Counter)
    """By why: one of `meshlb.cluster.link.CLOSE_REASONS`."""
    handshakes_refused: Counter[str] = field(default_factory=Counter)
    """Peers that this node refused, by `meshlb.wire.refusal.Refusal`."""
    handshakes_failed: Counter[str] = field(default_factory=Counter)
    """Connections that came to nothing: `not-meshlb`, `timeout`, `crowded-out`, `broken`."""
    refused_by_peers: Counter[str] = field(default_factory=Counter)
    """Handshakes in which a peer refused this node, by reason."""
    claims: Counter[str] = field(default_factory=Counter)
    """This node's claims by how they ended: `hit`, `new`, `moved`, `provisional`."""
    sessions_refused: int = 0
    """New or moved sessions that strict mode has refused."""
    deltas_sent: int = 0
    deltas_received: int = 0
    pulls_started: int = 0
    pulls_served: int = 0
    pins_pulled: int = 0
    digests_received: int = 0
    comparisons: int = 0
    """Of this node's table with a peer's, begun by this node."""
    keys_repaired: int = 0
    """Found different, and made alike, by those."""
    loop_lag_s: float = 0.0
    """How late the event loop's ticker last woke."""
    loop_lag_s_max: float = 0.0
