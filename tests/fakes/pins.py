"""Pins, proposals and a store for tests, with everything that a test does not care about."""

from meshlb.core.sticky.pin import NEVER, NO_BACKEND, Pin, Proposal
from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.messages import Rank

NOW = 1_700_000_000.0
TTL_S = 1_200.0


def a_key(number: int = 1, *, slot: int = 0) -> SessionKey:
    """A key in the given slot."""
    return SessionKey((slot << 6).to_bytes(2, "big") + number.to_bytes(14, "big"))


def a_pin(
    backend: str = "s1",
    *,
    pool: str = "app",
    by: KeySource = KeySource.HEADER,
    epoch: int = 0,
    rank: Rank = Rank.QUORATE,
    stamp_ms: int = 1_000,
    claimer: str = "n1",
    expires_at: float = NOW + TTL_S,
    ends_at: float = NEVER,
) -> Pin:
    return Pin(
        PoolName(pool),
        BackendName(backend),
        by,
        epoch,
        rank,
        stamp_ms,
        NodeName(claimer),
        expires_at,
        ends_at,
    )


def a_proposal(
    key: SessionKey,
    backend: str = "s1",
    *,
    ttl_s: float = TTL_S,
    max_age_s: float | None = None,
    moved_from: str = NO_BACKEND,
    moved_from_epoch: int = 0,
) -> Proposal:
    return Proposal(
        key,
        PoolName("app"),
        BackendName(backend),
        KeySource.HEADER,
        ttl_s,
        max_age_s,
        BackendName(moved_from),
        moved_from_epoch,
    )


class DictStore(dict[SessionKey, Pin]):
    """A `PinStore` that is a dict."""

    def put(self, key: SessionKey, pin: Pin) -> None:
        self[key] = pin
