"""The metrics: plain counters of the node, read when Prometheus asks and not before.

Owns names, labels and help texts. The hot path adds to plain ints; `NodeMetrics` turns a snapshot
of them (`Meters`) into the exposition format. Contract: "names begin meshlb_".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshlb.model import MemberState

PIN_OUTCOMES: Final = ("hit", "new", "moved", "provisional", "conflict")
"""`conflict` counts keys that two nodes had confirmed for two backends: it should stay 0."""

MEMBER_STATES: Final = tuple(state.name.lower() for state in MemberState)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meters:
    """The node's counters at one moment. Names of units as in the metrics; all since the start."""

    requests: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (listener, status class such as `2xx`)."""
    pins_by_outcome: Mapping[str, int] = field(default_factory=dict)
    """By one of `PIN_OUTCOMES`."""
    pins: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Live pins now, by (pool, backend)."""
    members: Mapping[str, int] = field(default_factory=dict)
    """Members now, by state: `alive`, `suspect`, `dead`, `left`."""
    relayed_bytes: Mapping[str, int] = field(default_factory=dict)
    """By direction: `upstream`, `downstream`."""
    connections: Mapping[str, int] = field(default_factory=dict)
    """Open now, by kind: `downstream`, `upstream`, `tunnels`."""
    loop_lag_s: float = 0.0
    """How late the event loop last woke."""
    messages_unknown: int = 0
    """Of members that speak a later version of the protocol."""
    datagrams_refused: Mapping[str, int] = field(default_factory=dict)
    """By reason, such as `seal`, `replay`, `malformed`."""
    handshakes_refused: Mapping[str, int] = field(default_factory=dict)
    """Streams at the cluster port that came to nothing, by reason, such as `not-meshlb`."""
    sync_differing: Mapping[str, int] = field(default_factory=dict)
    """Keys that differed when the tables were last compared, by peer."""
    sync_age_s: Mapping[str, float] = field(default_factory=dict)
    """How long ago that was, by peer."""
    keys_repaired: int = 0
    heals: int = 0
    pins_moved_by_heals: int = 0
    claims_hedged: int = 0
    """Claims that went to the backup as well, because their home was silent."""
    sessions_refused: int = 0
    """By strict mode."""
    store_written: bool = True
    store_waiting: int = 0
    store_forgotten: int = 0
    accepted: Mapping[str, int] = field(default_factory=dict)
    """Connections of clients, by listener."""
    accepting_paused: Mapping[str, int] = field(default_factory=dict)
    """How often accepting stopped for a moment, by listener."""
    backend_connects: int = 0
    """Begun, those that failed included."""
    backend_connects_failed: int = 0
    requests_moved: int = 0
    """To another backend, because one could not be reached."""
    requests_repeated: int = 0
    """Because the kept connection that they took was closed already."""
    datagrams_dropped: Mapping[str, int] = field(default_factory=dict)
    """Of clients of UDP listeners, by reason."""
    proxy_headers_refused: int = 0
    """Connections closed for want of a valid PROXY header."""
    tls_handshakes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Completed ones, by listener, and `full` or `resumed`."""
    tls_handshakes_failed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By listener and reason."""
    workers: int = 0
    """Processes that let clients in now, where the node has several."""
    worker_restarts: int = 0
    worker_words_dropped: int = 0
    """What workers had for their member while too much waited, claims included."""
    malformed_requests: int = 0
    """Requests answered 400 or 431 because of their syntax."""


class NodeMetrics(Collector):
    """Reads `source` at each scrape."""

    def __init__(self, source: Callable[[], Meters]) -> None:
        self._source = source

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read the source."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, each series that is known before the first event at 0."""
        meters = self._source()
        yield from _of_the_data_plane(meters)
        yield from _of_the_connections(meters)
        yield from _of_the_workers(meters)
        yield from _of_the_mesh(meters)
        yield from _of_the_repair(meters)
        yield from _of_the_refusals(meters)


def _of_the_data_plane(meters: Meters) -> Iterator[Metric]:
    yield _counter(
        "meshlb_requests",
        "Requests answered, by listener and class of status.",
        ("listener", "status"),
        meters.requests.items(),
    )
    yield _counter(
        "meshlb_malformed_requests",
        "Requests refused for their syntax.",
        (),
        [((), meters.malformed_requests)],
    )
    yield _counter(
        "meshlb_udp_dropped",
        "Datagrams of UDP listeners that were not passed on, by reason; and flows that made room.",
        ("reason",),
        _by_one(meters.datagrams_dropped, ()),
    )
    yield _counter(
        "meshlb_proxy_headers_refused",
        "Connections closed because their PROXY header was missing, malformed or late.",
        (),
        [((), meters.proxy_headers_refused)],
    )
    yield _counter(
        "meshlb_tls_handshakes",
        "TLS handshakes completed with clients.",
        ("listener", "kind"),
        meters.tls_handshakes.items(),
    )
    yield _counter(
        "meshlb_tls_handshakes_failed",
        "TLS handshakes with clients that came to nothing, and ClientHellos likewise.",
        ("listener", "reason"),
        meters.tls_handshakes_failed.items(),
    )
    yield _counter(
        "meshlb_relayed_bytes",
        "Bytes passed on, by direction.",
        ("direction",),
        _by_one(meters.relayed_bytes, ("upstream", "downstream")),
    )
    yield _gauge(
        "meshlb_connections",
        "Open connections, by kind.",
        ("kind",),
        _by_one(meters.connections, ("downstream", "upstream", "tunnels")),
    )
    yield _gauge(
        "meshlb_loop_lag_seconds",
        "How late the event loop last woke.",
        (),
        [((), meters.loop_lag_s)],
    )


def _of_the_connections(meters: Meters) -> Iterator[Metric]:
    yield _counter(
        "meshlb_accepted",
        "Connections of clients that were accepted.",
        ("listener",),
        _by_one(meters.accepted, ()),
    )
    yield _counter(
        "meshlb_accepting_paused",
        "How often accepting stopped for a moment: at the limit, or out of descriptors.",
        ("listener",),
        _by_one(meters.accepting_paused, ()),
    )
    yield _counter(
        "meshlb_backend_connects",
        "Connections to backends that were begun.",
        (),
        [((), meters.backend_connects)],
    )
    yield _counter(
        "meshlb_backend_connects_failed",
        "Connections to backends that came to nothing.",
        (),
        [((), meters.backend_connects_failed)],
    )
    yield _counter(
        "meshlb_requests_moved",
        "Requests and flows that went to another backend, because one could not be reached.",
        (),
        [((), meters.requests_moved)],
    )
    yield _counter(
        "meshlb_requests_repeated",
        "Requests sent again, because the kept connection that they took was closed already.",
        (),
        [((), meters.requests_repeated)],
    )


def _of_the_workers(meters: Meters) -> Iterator[Metric]:
    yield _gauge(
        "meshlb_workers",
        "Worker processes that let clients in; 0 where one process does everything.",
        (),
        [((), meters.workers)],
    )
    yield _counter(
        "meshlb_worker_restarts",
        "Worker processes that have ended and were replaced.",
        (),
        [((), meters.worker_restarts)],
    )
    yield _counter(
        "meshlb_worker_words_dropped",
        "Claims, pins and uses of pins that workers could not tell, because too much waited.",
        (),
        [((), meters.worker_words_dropped)],
    )


def _of_the_mesh(meters: Meters) -> Iterator[Metric]:
    yield _counter(
        "meshlb_pins",
        "Decisions about a session key, by outcome.",
        ("outcome",),
        _by_one(meters.pins_by_outcome, PIN_OUTCOMES),
    )
    yield _gauge(
        "meshlb_pins_live",
        "Live pins in this node's replica.",
        ("pool", "backend"),
        meters.pins.items(),
    )
    yield _gauge(
        "meshlb_members",
        "Members in this node's view, by state; this node included.",
        ("state",),
        _by_one(meters.members, MEMBER_STATES),
    )


def _of_the_refusals(meters: Meters) -> Iterator[Metric]:
    yield _counter(
        "meshlb_messages_unknown",
        "Messages that were passed over, for only a later version of the protocol knows them.",
        (),
        [((), meters.messages_unknown)],
    )
    yield _counter(
        "meshlb_datagrams_refused",
        "Datagrams at the cluster port that changed nothing, by reason.",
        ("reason",),
        _by_one(meters.datagrams_refused, ()),
    )
    yield _counter(
        "meshlb_handshakes_refused",
        "Streams at the cluster port that came to nothing, by reason.",
        ("reason",),
        _by_one(meters.handshakes_refused, ()),
    )


def _of_the_repair(meters: Meters) -> Iterator[Metric]:
    yield _counter(
        "meshlb_keys_repaired",
        "Keys that a comparison begun by this node has found different, and mended.",
        (),
        [((), meters.keys_repaired)],
    )
    yield _gauge(
        "meshlb_sync_differing_keys",
        "Keys that differed when this node's table and a peer's were last compared.",
        ("peer",),
        _by_one(meters.sync_differing, ()),
    )
    yield _gauge(
        "meshlb_sync_age_seconds",
        "How long ago this node's table and a peer's were last compared.",
        ("peer",),
        _by_one(meters.sync_age_s, ()),
    )
    yield _gauge(
        "meshlb_store_written",
        "1 while the stick table is written to the disk, 0 while it is in memory alone.",
        (),
        [((), int(meters.store_written))],
    )
    yield _gauge(
        "meshlb_store_waiting_pins",
        "Records that are in memory alone, because they could not be written yet.",
        (),
        [((), meters.store_waiting)],
    )
    yield _counter(
        "meshlb_store_forgotten_pins",
        "Records dropped because they could not be written and too many waited.",
        (),
        [((), meters.store_forgotten)],
    )
    yield _counter("meshlb_heals", "Partitions that have ended.", (), [((), meters.heals)])
    yield _counter(
        "meshlb_heal_pins_moved",
        "Live pins that the other side's have replaced after a partition.",
        (),
        [((), meters.pins_moved_by_heals)],
    )
    yield _counter(
        "meshlb_claims_hedged",
        "Claims that went to the backup as well, because their home was silent for 0.1 s.",
        (),
        [((), meters.claims_hedged)],
    )
    yield _counter(
        "meshlb_sessions_refused",
        "New or moved sessions that strict mode has refused for want of agreement.",
        (),
        [((), meters.sessions_refused)],
    )


def make_registry(source: Callable[[], Meters]) -> CollectorRegistry:
    """A registry of its own with the node's metrics and those of its process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeMetrics(source))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


Series = Iterable[tuple[tuple[str, ...], float]]
"""Label values and the number that goes with them."""


def _by_one(counts: Mapping[str, float], always: tuple[str, ...]) -> Series:
    return [((name,), counts.get(name, 0)) for name in dict.fromkeys((*always, *counts))]


def _counter(name: str, text: str, labels: tuple[str, ...], series: Series) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in series:
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], series: Series) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in series:
        family.add_metric(values, value)
    return family
