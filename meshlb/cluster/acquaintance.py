"""Which peers know all that this node's table holds, so that it may say so by its marks.

A log tells what its member has made since it started, and not what that found on its disk, nor
what it heard of others. Who joins takes in the table of a member in sync, and hears from then on
whatever anybody makes. But two members that were each in sync before they met, as after a restart
of both sides of a cut, may hold pins from their disks that the other has never heard of; and so
may two that were apart for as long as it takes to be given up, of pins of a third one that is gone
by now. Neither marks its view to the other one before their tables were compared.

Owns what decides whether a peer is such a stranger: who was in sync when the stream came up, by
the first word of each side, and who was met before and not given up since. Must not know how
tables are compared.

Spec: protocol/spec/pins.md, B10.
"""

from collections.abc import Iterable
from typing import Final

from meshlb.cluster.turns import Turns
from meshlb.core.sticky.events import TablesMet
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import PushPull

LIVES_MAX: Final = 1_024
"""Peers that are remembered as met; beyond, the first is forgotten and compared with again."""


class Acquaintance:
    """One per node."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._met: dict[NodeName, BootId] = {}
        """The lives of peers that this node was in sync with before their stream ended, but for
        those taken for dead since."""
        self._unheard: set[NodeName] = set()
        """Peers that have not said yet whether they are in sync."""
        self._apart: set[NodeName] = set()
        turns.repair.on_met = self._tables_met

    def opened(self, peer: NodeName, boot_id: BootId, *, am_synced: bool) -> None:
        """There is a new stream to `peer`."""
        self._unheard.discard(peer)
        self._apart.discard(peer)
        is_apart = am_synced and self._met.get(peer) != boot_id
        if is_apart:
            self._unheard.add(peer)
            self._apart.add(peer)
        self._turns.opened(peer, boot_id, is_apart=is_apart)

    def heard(self, peer: NodeName, words: Iterable[object]) -> None:
        """Words of `peer` on its stream."""
        if peer not in self._unheard:
            return
        for word in words:
            if isinstance(word, PushPull):
                self._unheard.discard(peer)
                if any(told.name == peer and told.synced for told in word.members):
                    self._turns.compare_soon(peer)
                else:  # it takes in the table of a member in sync before it decides on anything
                    self._tables_met(peer)
                return

    def given_up(self, peer: NodeName) -> None:
        """`peer` was taken for dead: it may have missed what was made meanwhile, or this node."""
        self._met.pop(peer, None)

    def _tables_met(self, peer: NodeName) -> None:
        if peer in self._apart:
            self._apart.discard(peer)
            self._turns.receive(TablesMet(peer))

    def closed(self, peer: NodeName, boot_id: BootId, *, are_synced: bool) -> None:
        """There is no stream to `peer` any more; `are_synced`: both live and are in sync."""
        if are_synced and peer not in self._apart:
            self._met.pop(peer, None)
            if len(self._met) >= LIVES_MAX:
                del self._met[next(iter(self._met))]
            self._met[peer] = boot_id
        self._unheard.discard(peer)
        self._apart.discard(peer)
        self._turns.closed(peer)
