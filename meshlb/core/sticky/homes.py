"""Who is home and who is backup of a key: rendezvous hashing of slots over the owners.

Owns the map from slots to holders for one set of owners, a value that every node computes alike.
Must not know who is reachable, nor what the holders do.

A key belongs to the slot named by its first ten bits. Each owner has a weight for each slot, a
hash of the two; the owners in order of weight are the slot's holders: the first is home, the
second backup. So when an owner goes, only its own slots change: the second becomes the first.
And when one joins, the backup of the slots it becomes home of is the home they had before.

Spec: protocol/spec/pins.md, "Homes".
"""

import hashlib
from collections.abc import Iterable

from meshlb.model import NodeName, SessionKey

SLOT_BITS = 10
SLOTS = 1 << SLOT_BITS

Holders = tuple[NodeName | None, NodeName | None]
"""Home and backup; no backup with one owner, neither without any."""

_SLOT_SHIFT = 16 - SLOT_BITS
_PERSON = b"meshlb-slot"


def slot_of(key: SessionKey) -> int:
    """The slot of a key, 0 to 1,023."""
    return (key[0] << 8 | key[1]) >> _SLOT_SHIFT


def weight(slot: int, owner: NodeName) -> bytes:
    """How much `owner` wants `slot`: eight bytes that compare as a big-endian number."""
    return hashlib.blake2b(
        slot.to_bytes(2, "big") + owner.encode(), digest_size=8, person=_PERSON
    ).digest()


class Homes:
    """The holders of every slot under one set of owners, worked out when first asked for."""

    __slots__ = ("_by_slot", "owners")

    def __init__(self, owners: Iterable[NodeName]) -> None:
        """`owners`: in any order."""
        self.owners = frozenset(owners)
        self._by_slot: list[Holders | None] = [None] * SLOTS

    def holders(self, key: SessionKey) -> Holders:
        """Home and backup of a key."""
        holders = self._by_slot[(key[0] << 8 | key[1]) >> _SLOT_SHIFT]  # `slot_of`, without a call
        return holders or self.slot_holders(slot_of(key))

    def slot_holders(self, slot: int) -> Holders:
        """Home and backup of a slot."""
        holders = self._by_slot[slot]
        if holders is None:
            holders = self._by_slot[slot] = self._rank(slot)
        return holders

    def _rank(self, slot: int) -> Holders:
        # The name decides between equal weights, so that nodes agree even then.
        ranked = sorted(self.owners, key=lambda owner: (weight(slot, owner), owner), reverse=True)
        first, second, *_ = (*ranked[:2], None, None)
        return first, second
