"""How long a pin lives: sliding expiry, its cap, and the grace for uses not yet heard of.

Owns the arithmetic of `ttl_s` and `max_age_s`; all times are table time. Knows no table.

A touch is replicated only once a part of the ttl has passed since the last one, so any replica
may believe a pin expired that was used a little later elsewhere. Therefore an expired pin
*lingers* for that part: it is not routed by, but a claim finds it, and its home renews it rather
than make another. A client that comes back within its ttl never loses its backend.

Spec: protocol/spec/pins.md, "Lifetime".
"""

from meshlb.core.sticky.merge import with_lifetime
from meshlb.core.sticky.pin import NEVER, Pin, Proposal

TOUCH_FRACTION = 0.25
"""The part of the ttl that passes before another touch is written and replicated."""

LINGER_S_MAX = 300.0
"""The longest such part, and so the longest that an expired pin is kept."""


def unheard_s(ttl_s: float) -> float:
    """For how long uses of a pin with this ttl may go unheard of."""
    return min(ttl_s * TOUCH_FRACTION, LINGER_S_MAX)


def fresh(proposal: Proposal, now: float) -> tuple[float, float]:
    """`expires_at` and `ends_at` of a pin that is made now."""
    ends_at = NEVER if proposal.max_age_s is None else now + proposal.max_age_s
    return min(now + proposal.ttl_s, ends_at), ends_at


def touched(pin: Pin, ttl_s: float, now: float) -> Pin | None:
    """`pin` as used now; None where so little has passed that it is not worth a write."""
    expires_at = min(now + ttl_s, pin.ends_at)
    if expires_at - pin.expires_at < unheard_s(ttl_s):
        return None
    return with_lifetime(pin, expires_at=expires_at, ends_at=pin.ends_at)


def renewed(pin: Pin, ttl_s: float, now: float) -> Pin:
    """`pin` with its whole idle lifetime ahead, as far as its absolute one allows."""
    return with_lifetime(pin, expires_at=min(now + ttl_s, pin.ends_at), ends_at=pin.ends_at)


def lingers(pin: Pin, ttl_s: float, now: float) -> bool:
    """True for a pin that has expired here but may have been used since elsewhere."""
    return (
        bool(pin.backend)
        and pin.expires_at <= now < pin.expires_at + unheard_s(ttl_s)
        and now < pin.ends_at
    )
