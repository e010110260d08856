"""Proposals as they travel: between `Proposal` and `Claim`, and from a pin back to a proposal.

Owns conversions only. Must not know who claims, or why.

Spec: protocol/spec/pins.md, "Claims".
"""

from meshlb.core.sticky.pin import EPOCH_MAX, LIFETIME_S_MAX, MS_PER_S, NEVER, Pin, Proposal
from meshlb.model import SessionKey
from meshlb.wire.messages import Claim


def is_claimable(claim: Claim) -> bool:
    """False for a claim that no honest member makes: its pin could not be kept, or not live."""
    return bool(claim.backend) and claim.ttl_ms > 0 and claim.moved_from_epoch <= EPOCH_MAX


def claim_from_proposal(proposal: Proposal, *, request: int, is_hedged: bool) -> Claim:
    """The claim that carries `proposal`."""
    return Claim(
        request,
        proposal.key,
        proposal.pool,
        proposal.backend,
        proposal.by,
        max(1, round(proposal.ttl_s * MS_PER_S)),
        0 if proposal.max_age_s is None else max(1, round(proposal.max_age_s * MS_PER_S)),
        proposal.moved_from,
        proposal.moved_from_epoch,
        is_hedged,
    )


def proposal_from_claim(claim: Claim) -> Proposal:
    """What a peer's claim proposes."""
    return Proposal(
        claim.key,
        claim.pool,
        claim.backend,
        claim.by,
        min(claim.ttl_ms / MS_PER_S, LIFETIME_S_MAX),
        min(claim.max_age_ms / MS_PER_S, LIFETIME_S_MAX) if claim.max_age_ms else None,
        claim.moved_from,
        claim.moved_from_epoch,
    )


def proposal_from_pin(key: SessionKey, pin: Pin, *, now: float) -> Proposal:
    """The proposal that would make `pin`, as long as it still lives."""
    max_age_s = None if pin.ends_at == NEVER else pin.ends_at - now
    return Proposal(key, pin.pool, pin.backend, pin.by, pin.expires_at - now, max_age_s)
