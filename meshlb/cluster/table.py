"""The stick table of a member, as its proxy sees it.

Owns nothing: it joins the replica, the claim machine and replication into the four verbs of
`StickTable`. Must not know streams or members.

Spec: protocol/spec/pins.md.
"""

from meshlb.cluster.clock import TableClock
from meshlb.cluster.pins import PinAgent
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.model import SessionKey


class MemberTable:
    """Implements `meshlb.core.sticky.table.StickTable` in the process of the member itself."""

    def __init__(self, agent: PinAgent, clock: TableClock) -> None:
        self._agent = agent
        self._turns = agent.turns
        self._replica = agent.turns.claims.replica
        self._now = clock.now

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        """The pin of `key` in the local replica that lives at `now`."""
        return self._replica.look_up(key, now)

    async def claim(self, proposal: Proposal) -> Pin:
        """Agrees with the cluster on one pin for the proposal's key."""
        return await self._agent.claim(proposal)

    def plant(self, proposal: Proposal, *, epoch: int = 0) -> Pin:
        """Pins a key that no other node can be claiming, and replicates it at once."""
        pin, is_new = self._replica.plant(proposal, epoch=epoch, now=self._now())
        if is_new:
            self._turns.stored(proposal.key, pin)
        return pin

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        """Notes that `pin` was used now."""
        extended = self._replica.touch(key, pin, ttl_s, self._now())
        if extended is not None:
            self._turns.stored(key, extended)

    def unpin(self, key: SessionKey) -> bool:
        """Puts a tombstone in the place of a live pin, cluster-wide; False where there is none."""
        stone = self._replica.unpin(key, self._now())
        if stone is not None:
            self._turns.stored(key, stone)
        return stone is not None
