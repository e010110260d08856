"""How far peers say they have read each log, and which logs this node should know more of.

Owns the positions that peers have told, and what of them this node cannot hope to hear from the
origin itself: the origin is gone, and had told others more. Must not know how that is repaired.

A peer that is still ahead after `LAG_S` on the log of an origin that this node has no stream to
holds pins that this node lacks. Once the two tables have been compared, this node covers all
that the peer had read before.

Spec: protocol/spec/repair.md, "Digests".
"""

from collections.abc import Collection, Iterable, Mapping

from meshlb.model import BootId, NodeName
from meshlb.wire.messages import DeltaAck, Position

LAG_S = 3.0
"""How long what an origin has said last may be under way: far above a stream's delay."""

ORIGINS_MAX = 1_024
"""Origins that are remembered; of one more nothing is noted until another is forgotten."""


class Vector:
    """One per node."""

    def __init__(self) -> None:
        self._covered: dict[NodeName, tuple[BootId, int]] = {}
        self._told: dict[NodeName, dict[NodeName, tuple[BootId, int]]] = {}
        self._ahead_since: dict[tuple[NodeName, NodeName], float] = {}

    def told(self, peer: NodeName, positions: Iterable[Position]) -> None:
        """`peer` has read so much of these logs."""
        known = self._told.setdefault(peer, {})
        for position in positions:
            if position.origin in known or len(known) < ORIGINS_MAX:
                known[position.origin] = (position.boot_id, position.seq)

    def of(self, peer: NodeName) -> dict[NodeName, tuple[BootId, int]]:
        """What `peer` has told last."""
        return dict(self._told.get(peer, {}))

    def forget(self, peer: NodeName) -> None:
        """The stream of `peer` is gone; it tells everything anew on the next one."""
        self._told.pop(peer, None)
        for pair in [pair for pair in self._ahead_since if pair[0] == peer]:
            del self._ahead_since[pair]

    def cover(self, positions: Mapping[NodeName, tuple[BootId, int]]) -> None:
        """All that the logs say up to `positions` is in the table, by whatever way it came."""
        for origin, position in positions.items():
            if origin in self._covered or len(self._covered) < ORIGINS_MAX:
                self._covered[origin] = position

    def ahead(
        self,
        mine: Mapping[NodeName, DeltaAck],
        *,
        linked: Collection[NodeName],
        me: NodeName,
        now: float,
    ) -> NodeName | None:
        """A peer that has been ahead of this node for `LAG_S`; None where there is none."""
        found = None
        for peer, positions in self._told.items():
            for origin, (boot_id, seq) in positions.items():
                pair = (peer, origin)
                if (
                    origin == me
                    or origin in linked
                    or seq <= self._read(origin, boot_id, mine.get(origin))
                ):
                    self._ahead_since.pop(pair, None)
                elif now - self._ahead_since.setdefault(pair, now) >= LAG_S:
                    found = peer
        return found

    def _read(self, origin: NodeName, boot_id: int, mine: DeltaAck | None) -> int:
        """How much of a log of `origin` this node has, at whatever hand."""
        by_itself = mine.seq if mine is not None and mine.boot_id == boot_id else 0
        covered_boot, covered_seq = self._covered.get(origin, (BootId(0), 0))
        return max(by_itself, covered_seq if covered_boot == boot_id else 0)
