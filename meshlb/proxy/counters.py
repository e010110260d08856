"""What the data plane counts: plain integers, read by the metrics at scrape time."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class ListenerCounters:
    """Of one listener; `answered` is indexed by the first digit of the status."""

    answered: list[int] = field(default_factory=lambda: [0] * 10)
    connections: int = 0
    accepted: int = 0
    pauses: int = 0
    """How often accepting stopped for a moment: at the limit, or out of descriptors."""
    proxy_headers_refused: int = 0
    """Connections closed because their PROXY header was missing, malformed or late."""
    handshakes: int = 0
    """TLS handshakes that were completed, resumed sessions included."""
    handshakes_resumed: int = 0
    handshakes_failed: Counter[str] = field(default_factory=Counter)
    """By one of `greeting.FAILURES`."""
    malformed: int = 0
    """Requests answered with a 4xx of our own because of their syntax or size."""


@dataclass(slots=True)
class ProxyCounters:
    """Of the whole data plane of this process."""

    pins_hit: int = 0
    pins_new: int = 0
    relayed_up_bytes: int = 0
    relayed_down_bytes: int = 0
    connects: int = 0
    """Connections to backends that were begun."""
    connect_failures: int = 0
    """Those that came to nothing."""
    redispatches: int = 0
    """Requests and flows that went to another backend, because one could not be reached."""
    retries: int = 0
    """Requests sent again, because the kept connection that they took was closed already."""
    datagrams_dropped: Counter[str] = field(default_factory=Counter)
    """Of UDP listeners, by reason; also flows that had to make room."""
    listeners: dict[str, ListenerCounters] = field(default_factory=dict)
