"""How far this node has read the replication logs of its peers.

Owns one position per peer. Must not know what the entries say; merging them is `claims`' work.

Spec: protocol/spec/pins.md, "Replication".
"""

from collections.abc import Mapping
from types import MappingProxyType

from meshlb.model import BootId, NodeName
from meshlb.wire.messages import Delta, DeltaAck

PEERS_MAX = 1_024
"""Peers whose position is remembered; beyond, the one that was heard first is forgotten."""

NOTHING_READ = DeltaAck(BootId(0), 0)
"""The position of who knows nothing of a peer's log."""


class Intake:
    """The positions, as the acknowledgements that tell them."""

    def __init__(self) -> None:
        self._positions: dict[NodeName, DeltaAck] = {}

    def position(self, peer: NodeName) -> DeltaAck:
        """What to tell `peer` first on a new stream, and from time to time after."""
        return self._positions.get(peer, NOTHING_READ)

    def positions(self) -> Mapping[NodeName, DeltaAck]:
        """Every position, by peer."""
        return MappingProxyType(self._positions)

    def cover(self, peer: NodeName, boot_id: BootId, seq: int) -> None:
        """All of the log of `peer` up to `seq` is in the store, by whatever way it came."""
        known = self.position(peer)
        if known.boot_id != boot_id or known.seq < seq:
            self._place(peer, DeltaAck(boot_id, seq))

    def advance(self, peer: NodeName, delta: Delta) -> bool:
        """Note that `delta` is merged; call it once its pins are in the store.

        Returns:
            False where there is a gap before `delta`: the table has to be pulled from `peer`.
        """
        boot_id, seq = delta.boot_id, delta.upto_seq
        known = self.position(peer)
        if known.boot_id == boot_id:
            has_gap = delta.after_seq > known.seq
            seq = max(seq, known.seq)
        else:
            has_gap = delta.after_seq > 0
        self._place(peer, DeltaAck(boot_id, seq))
        return not has_gap

    def _place(self, peer: NodeName, position: DeltaAck) -> None:
        if peer not in self._positions and len(self._positions) >= PEERS_MAX:
            del self._positions[next(iter(self._positions))]
        self._positions[peer] = position
