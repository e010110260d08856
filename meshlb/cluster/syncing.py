"""Sees to it that this node gets in sync, and stays so: whom to pull from, and when.

Owns the state that `joining` judges, and what follows from its verdict. Must not know how a table
is pulled, nor what links and members are otherwise for.

Spec: protocol/spec/replication.md, "Joining".
"""

from collections.abc import Callable

import structlog

from meshlb.cluster import joining
from meshlb.cluster.joining import Situation, gap_filler
from meshlb.cluster.search import Search
from meshlb.cluster.turns import Turns
from meshlb.core.swim.membership import Membership
from meshlb.model import Address, NodeName
from meshlb.wire.refusal import Refusal

_log = structlog.get_logger("meshlb.cluster")


class Syncing:
    """One per node.

    Attributes:
        reason: what this node still lacks to be in sync; empty once it is.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        turns: Turns,
        search: Search,
        started_at: float,
        on_synced: Callable[[float], None],
    ) -> None:
        """Wire; `on_synced` is called once, with the present time: the whole table is here."""
        self._membership = membership
        self._turns = turns
        self._search = search
        self._started_at = started_at
        self._on_synced = on_synced
        self._refused = ""
        self.reason = "starting"

    def refused(self, address: Address, refusal: Refusal) -> None:
        """Somebody there does not want this node."""
        self._refused = f"refused by {address}: {refusal}"

    def welcomed(self) -> None:
        """Somebody has let this node in."""
        self._refused = ""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is missing just now."""
        return self._membership.me.synced and not self._turns.replication.gaps

    def consider(self, linked: set[NodeName], now: float) -> None:
        """Pull a table where something is missing; say when nothing is any more.

        `linked`: the peers that there is a stream to.
        """
        replication = self._turns.replication
        members = self._membership.members()
        if not self._membership.me.synced:
            verdict = joining.judge(
                Situation(
                    age_s=now - self._started_at,
                    untried=self._search.left,
                    refused=self._refused,
                    others=tuple(m for m in members if m.name != self._membership.me.name),
                    linked=linked,
                    pulled=replication.pulled_from,
                    has_pulled_synced=replication.has_pulled_synced,
                    gaps=replication.gaps,
                )
            )
            self.reason = verdict.reason
            if not verdict.reason:
                _log.info("in sync", after_s=round(now - self._started_at, 3))
                self._on_synced(now)
            pull_from = verdict.pull_from
        else:
            pull_from = gap_filler(
                replication.gaps, [member for member in members if member.name in linked]
            )
        if pull_from is not None and replication.pulling_from is None:
            self._turns.pull(pull_from.name, is_synced=pull_from.synced)
