"""The counters of a node as they stand, for its metrics.

Owns which number of which part goes under which name of `meshlb.admin.metrics.Meters`.
"""

from collections.abc import Mapping
from typing import Final

from meshlb.admin.metrics import Meters
from meshlb.admin.view import SyncView
from meshlb.cluster.mesh import Mesh
from meshlb.node import shapes
from meshlb.node.front import Front
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.greeting import FAILURES
from meshlb.store import LmdbPins

STATUS_CLASSES_MAX: Final = 5


def take(mesh: Mesh, front: Front, store: LmdbPins, *, sync: Mapping[str, SyncView]) -> Meters:
    """Read all counters."""
    proxy, counted = front.counters, mesh.counters
    return Meters(
        requests=_requests(proxy),
        pins_by_outcome={
            "hit": proxy.pins_hit + counted.claims["hit"],
            "new": proxy.pins_new + counted.claims["new"],
            "moved": counted.claims["moved"],
            "provisional": counted.claims["provisional"],
            "conflict": mesh.claim_counters.conflicts,
        },
        pins=dict(store.counts().items()),
        members=shapes.members_by_state(mesh.members()),
        relayed_bytes={
            "upstream": proxy.relayed_up_bytes,
            "downstream": proxy.relayed_down_bytes,
        },
        connections={
            "downstream": sum(t.connections for t in proxy.listeners.values()),
            "upstream": front.upstreams,
            "tunnels": front.tunnels,
        },
        loop_lag_s=counted.loop_lag_s,
        messages_unknown=counted.messages_unknown,
        datagrams_refused=dict(counted.datagrams_refused),
        handshakes_refused=dict(counted.handshakes_refused + counted.handshakes_failed),
        sync_differing={peer: known.differing_keys for peer, known in sync.items()},
        sync_age_s={peer: known.age_s for peer, known in sync.items()},
        keys_repaired=counted.keys_repaired,
        store_written=store.degraded is None,
        store_waiting=store.unwritten,
        store_forgotten=store.forgotten,
        heals=mesh.heals().count,
        pins_moved_by_heals=mesh.heals().moved,
        claims_hedged=mesh.claim_counters.hedged,
        sessions_refused=counted.sessions_refused,
        accepted={name: tally.accepted for name, tally in proxy.listeners.items()},
        accepting_paused={name: tally.pauses for name, tally in proxy.listeners.items()},
        backend_connects=proxy.connects,
        backend_connects_failed=proxy.connect_failures,
        requests_moved=proxy.redispatches,
        requests_repeated=proxy.retries,
        datagrams_dropped=dict(proxy.datagrams_dropped),
        proxy_headers_refused=sum(t.proxy_headers_refused for t in proxy.listeners.values()),
        tls_handshakes=_handshakes(proxy),
        tls_handshakes_failed={
            (name, reason): tally.handshakes_failed[reason]
            for name, tally in proxy.listeners.items()
            for reason in FAILURES
        },
        workers=sum(worker.accepting for worker in front.workers),
        worker_restarts=sum(worker.restarts for worker in front.workers),
        worker_words_dropped=front.words_dropped,
        malformed_requests=sum(t.malformed for t in proxy.listeners.values()),
    )


def _requests(proxy: ProxyCounters) -> dict[tuple[str, str], int]:
    return {
        (name, f"{status}xx"): tally.answered[status]
        for name, tally in proxy.listeners.items()
        for status in range(1, STATUS_CLASSES_MAX + 1)
    }


def _handshakes(proxy: ProxyCounters) -> dict[tuple[str, str], int]:
    return {
        (name, kind): count
        for name, tally in proxy.listeners.items()
        for kind, count in (
            ("full", tally.handshakes - tally.handshakes_resumed),
            ("resumed", tally.handshakes_resumed),
        )
    }
