"""Which pin answers a claim, and which one is to be agreed on if none does.

Owns the home's two decisions as functions of what is known. Pure: must not know who waits, nor
what happens to the choice.

Spec: protocol/spec/pins.md, "Claims".
"""

from meshlb.core.sticky.lifetime import fresh, lingers, renewed
from meshlb.core.sticky.pin import EPOCH_MAX, Pin, Proposal, epoch_after
from meshlb.core.sticky.standing import Standing
from meshlb.model import NodeName
from meshlb.wire.messages import Rank


def existing(known: Pin | None, proposal: Proposal, standing: Standing, now: float) -> Pin | None:
    """The pin to answer with; None where one has to be made, moved or agreed on."""
    if known is None:
        return None
    is_minority = not standing.quorate
    if known.is_tombstone or proposal.rejects(known):
        # A minority moves nothing: it insists on what there is.
        return known if is_minority and known.expires_at > now else None
    if lingers(known, proposal.ttl_s, now):
        return renewed(known, proposal.ttl_s, now)
    if not known.is_live(now):
        return None
    is_agreed = known.rank >= standing.rank
    return known if is_agreed or is_minority or not standing.barrier.is_complete else None


def chosen(
    known: Pin | None,
    tried: Pin | None,
    proposal: Proposal,
    claimer: NodeName,
    standing: Standing,
    *,
    stamp_ms: int,
    now: float,
) -> Pin:
    """The pin to have agreed on.

    Args:
        known: what the table says of the key: nothing, or something that does not answer.
        tried: what this node proposed before, and may be agreed on already.
        proposal: what the claimer wants, if the choice is free.
        claimer: who claims.
        standing: this node's view.
        stamp_ms: a fresh stamp.
        now: table time.
    """
    expires_at, ends_at = fresh(proposal, now)
    provisional = None
    epoch = _next_epoch(known, proposal, is_quorate=standing.quorate)
    if known is not None and known.is_live(now) and not proposal.rejects(known):
        provisional, epoch = known, known.epoch
    if tried is not None and not proposal.rejects(tried) and _binds(tried, epoch, standing):
        return _proposed(tried, standing.rank, expires_at)
    if provisional is not None:
        return _proposed(provisional, standing.rank, expires_at)
    return Pin(
        proposal.pool,
        proposal.backend,
        proposal.by,
        epoch,
        standing.rank,
        stamp_ms,
        claimer,
        expires_at,
        ends_at,
    )


def is_last(known: Pin | None, proposal: Proposal, now: float) -> bool:
    """True where nothing can follow what is known: it is in the last epoch that there is."""
    return (
        known is not None
        and known.epoch == EPOCH_MAX
        and known.expires_at > now
        and (known.is_tombstone or proposal.rejects(known))
    )


def _next_epoch(known: Pin | None, proposal: Proposal, *, is_quorate: bool) -> int:
    """One more than that of anything known to this node or the claimer, but in a minority."""
    epochs = [proposal.moved_from_epoch] if proposal.moved_from else []
    if known is not None:
        epochs.append(known.epoch)
    if not epochs:
        return 0
    return epoch_after(max(epochs)) if is_quorate else max(epochs)


def _binds(tried: Pin, epoch: int, standing: Standing) -> bool:
    """True where what was tried is still to be proposed; a minority moves nothing, not even so."""
    return tried.epoch >= epoch if standing.quorate else tried.epoch == epoch


def _proposed(pin: Pin, rank: Rank, expires_at: float) -> Pin:
    """`pin` as it is proposed to the backup."""
    return Pin(
        pin.pool,
        pin.backend,
        pin.by,
        pin.epoch,
        rank,
        pin.stamp_ms,
        pin.claimer,
        min(max(expires_at, pin.expires_at), pin.ends_at),
        pin.ends_at,
    )
