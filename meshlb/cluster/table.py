"""The stick table of a member, as its proxy sees it.

Owns the strict mode; else it only joins the replica, the claim machine and replication into the
verbs of `StickTable`. Must not know streams or members.

With `mode = "strict"` nothing that is not agreed on begins or moves a session: a claim is refused
where this node is with a minority, or ends in a pin that is not agreed on because home and backup
stay silent or are with a minority themselves; a provisional pin is not followed either, until it
is agreed on. Minted keys are claimed like any other: before it is noticed that the others are gone,
nobody else could say no.

Spec: protocol/spec/pins.md.
"""

from collections.abc import Callable

from meshlb.cluster.clock import TableClock
from meshlb.cluster.pins import PinAgent
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import NoQuorumError
from meshlb.model import BackendName, PoolName, SessionKey
from meshlb.net.calling_back import answer_of
from meshlb.wire.messages import Rank


class MemberTable:
    """Implements `meshlb.core.sticky.table.StickTable` in the process of the member itself."""

    def __init__(
        self,
        agent: PinAgent,
        clock: TableClock,
        *,
        is_strict: bool = False,
        is_quorate: Callable[[], bool] = lambda: True,
    ) -> None:
        """Wire; `is_quorate`: whether this node is with the majority now."""
        self._agent = agent
        self._turns = agent.turns
        self._replica = agent.turns.claims.replica
        self._now = clock.now
        self.is_strict = is_strict
        self._is_quorate = is_quorate
        self.why_unusable: Callable[[PoolName, BackendName], str] = lambda pool, backend: ""
        """Why a backend cannot be followed just now, for the history of the keys that leave it."""

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        """The pin of `key` in the local replica that lives at `now`."""
        pin = self._replica.look_up(key, now)
        if self.is_strict and pin is not None and pin.rank is Rank.PROVISIONAL:
            return None
        return pin

    def claim_soon(
        self, proposal: Proposal, on_done: Callable[[Pin | NoQuorumError], None]
    ) -> None:
        """Agrees with the cluster on one pin for the proposal's key, and tells `on_done`."""
        if proposal.moved_from:
            why = self.why_unusable(proposal.pool, proposal.moved_from)
            self._turns.history.moving(proposal.key, proposal.moved_from_epoch, why)
        if not self.is_strict:
            self._agent.claim_soon(proposal, on_done)
        elif self._is_quorate():
            self._agent.claim_soon(proposal, lambda pin: on_done(self._if_agreed(pin)))
        else:
            on_done(self._refused("this node is with a minority of the cluster"))

    async def claim(self, proposal: Proposal) -> Pin:
        """The same for a task."""
        return await answer_of(lambda take: self.claim_soon(proposal, take))

    def _if_agreed(self, pin: Pin) -> Pin | NoQuorumError:
        if pin.rank is not Rank.QUORATE:
            return self._refused("the cluster did not agree on a backend in time")
        return pin

    def plant(self, proposal: Proposal, *, epoch: int | None = None) -> Pin:
        """Pins a key that no other node can be claiming, and replicates it at once."""
        assert epoch is not None or not self.is_strict
        pin, is_new = self._replica.plant(proposal, epoch=epoch or 0, now=self._now())
        if is_new:
            self._turns.stored(proposal.key, pin)
        return pin

    def _refused(self, reason: str) -> NoQuorumError:
        self._agent.counters.sessions_refused += 1
        return NoQuorumError(reason)

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        """Notes that `pin` was used now."""
        extended = self._replica.touch(key, pin, ttl_s, self._now())
        if extended is not None:
            self._turns.stored(key, extended)

    def unpin(self, key: SessionKey) -> bool:
        """Puts a tombstone in the place of a live pin, cluster-wide; False where there is none.

        It is on this node's disk then: whoever asked may be told, whatever happens next.
        """
        stone = self._replica.unpin(key, self._now())
        if stone is not None:
            self._agent.commit()
            self._turns.stored(key, stone)
        return stone is not None
