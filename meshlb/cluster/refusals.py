"""Says why nodes refuse each other, in as few log lines as tell it.

Owns the wording and the pace of these lines. A node that is refused logs one error for each
address and reason, and again only after something has changed there; the one that refuses counts
each time and logs each reason at most once a minute, whoever knocks.

Contract: "Configuration", on nodes that are refused.
"""

from typing import Final

import structlog

from meshlb.cluster.counters import MeshCounters
from meshlb.core.swim.view import MEMBERS_LIVE_MAX
from meshlb.model import Address, NodeName
from meshlb.wire.refusal import Refusal

LOG_EVERY_S: Final = 60.0
ADDRESSES_MAX: Final = 1_024
"""Addresses whose last refusal is remembered; the oldest makes room."""

_log = structlog.get_logger("meshlb.cluster")

_MEANING: Final = {
    Refusal.OTHER_SECRET: "none of this node's secrets is one of the cluster's",
    Refusal.OTHER_CLUSTER: "the member belongs to a cluster of another name",
    Refusal.NAME_TAKEN: "a live member at another address has this node's name",
    Refusal.OTHER_VERSION: "the member speaks no protocol version that this node speaks",
    Refusal.CLUSTER_FULL: f"the cluster has {MEMBERS_LIVE_MAX} members, as many as it may have",
    Refusal.TOO_MANY: "the member has too many connections",
    Refusal.TLS_REQUIRED: "the member takes streams over TLS alone; this node has no [cluster] tls",
    Refusal.NO_TLS: "the member does not speak TLS; this node has [cluster] tls",
    Refusal.CERTIFICATE: "one of the two does not accept the other's certificate",
    Refusal.UNKNOWN: "for a reason that only a later version knows",
}


class RefusalLog:
    """One per node."""

    def __init__(self, counters: MeshCounters) -> None:
        self._counters = counters
        self._told: dict[Address, Refusal] = {}
        self._logged_at: dict[Refusal, float] = {}

    def refused_by(self, address: Address, reason: Refusal, detail: str = "") -> None:
        """The member at `address` does not let this node in."""
        self._counters.refused_by_peers[reason.value] += 1
        if reason not in _MEANING or self._told.get(address) is reason:
            return
        if len(self._told) >= ADDRESSES_MAX:
            del self._told[next(iter(self._told))]
        self._told[address] = reason
        _log.error(
            "refused by a member; trying on",
            member=str(address),
            reason=reason.value,
            meaning=_MEANING[reason],
            **_said(detail),
        )

    def admitted_by(self, address: Address) -> None:
        """A handshake with `address` succeeded: a later refusal is news again."""
        self._told.pop(address, None)

    def refused(
        self,
        source: Address,
        reason: Refusal,
        claimed_name: NodeName | None,
        *,
        now: float,
        detail: str = "",
    ) -> None:
        """This node did not let in who connected from `source`; `now` is monotonic seconds."""
        self._counters.handshakes_refused[reason.value] += 1
        if reason not in _MEANING:
            return
        if now - self._logged_at.get(reason, -LOG_EVERY_S) < LOG_EVERY_S:
            return
        self._logged_at[reason] = now
        _log.warning(
            "refused a node; logged at most once a minute",
            source=str(source),
            claimed_name=claimed_name,
            reason=reason.value,
            times=self._counters.handshakes_refused[reason.value],
            **_said(detail),
        )


def _said(detail: str) -> dict[str, str]:
    return {"detail": detail} if detail else {}
