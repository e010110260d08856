"""Which addresses to join by a node has tried since it started.

Owns the account; until all were tried, somebody may be there, and the node takes no part yet.
Must not know how addresses are tried, nor how names resolve.

Spec: protocol/spec/replication.md, "Joining", R12.
"""

from collections.abc import Iterable

from meshlb.model import Address


class Search:
    """One per start of a node."""

    def __init__(self, me: Address, seeds: Iterable[Address], *, unresolved: int = 0) -> None:
        """`me` is this node's own address, which need not be tried."""
        self._me = me
        self._seeds: set[Address] = set()
        self._untried: set[Address] = set()
        self._unresolved = 0
        self.extend(seeds, unresolved=unresolved)

    @property
    def left(self) -> int:
        """Addresses that were not tried yet, and names that have not resolved yet."""
        return len(self._untried) + self._unresolved

    def extend(self, seeds: Iterable[Address], *, unresolved: int) -> None:
        """These are the addresses now; `unresolved` names have never resolved."""
        seeds = set(seeds)
        self._untried |= seeds - self._seeds - {self._me}
        self._seeds |= seeds
        self._unresolved = unresolved

    def tried(self, *addresses: Address | None) -> None:
        """Somebody was met there, or nobody."""
        self._untried.difference_update(addresses)
