"""When a holder may make pins for keys it does not have: once everybody has told what they know.

Owns the last view that each peer has marked. Must not know homes, pins or how marks travel.

After each change of the ownership view every member sends `ViewMark(view_id)` to each peer,
behind the log entries of all it has confirmed so far, and confirms nothing more under the older
view. So who has the mark of a view from every other owner has every pin that any of them
confirmed under an older one, and may decide that a key is new. What an owner that went away has
confirmed, its backup and those it still reached announce before their own marks (see `held` and
`recent`).

Only the latest mark of a peer counts: an owner that went away to another view and came back has
to mark again. A new stream voids the mark of the old one for the same reason.

Spec: protocol/spec/pins.md, "Barrier".
"""

from meshlb.model import NodeName

MARKS_MAX = 1_024
"""Peers whose mark is remembered; those that are no owners are forgotten first."""


class Barrier:
    """The marks that this node has received."""

    __slots__ = ("_marks", "_missing", "_name", "_owners", "_view_id")

    def __init__(self, name: NodeName) -> None:
        """`name`: this node; its own mark is not waited for."""
        self._name = name
        self._view_id = 0
        self._owners: frozenset[NodeName] = frozenset()
        self._marks: dict[NodeName, int] = {}
        self._missing: set[NodeName] = set()

    @property
    def is_complete(self) -> bool:
        """True once every other owner has marked the current view."""
        return not self._missing

    @property
    def missing(self) -> frozenset[NodeName]:
        """The owners whose mark is waited for."""
        return frozenset(self._missing)

    def enter(self, view_id: int, owners: frozenset[NodeName]) -> None:
        """This node's view has changed; marks that came ahead of it count."""
        self._view_id = view_id
        self._owners = owners
        self._missing = {
            owner for owner in owners if owner != self._name and self._marks.get(owner) != view_id
        }
        if len(self._marks) > MARKS_MAX:
            self._marks = {name: mark for name, mark in self._marks.items() if name in owners}

    def mark(self, peer: NodeName, view_id: int) -> None:
        """`peer` has marked `view_id`."""
        if peer not in self._marks and len(self._marks) >= MARKS_MAX and peer not in self._owners:
            return
        self._marks[peer] = view_id
        if peer not in self._owners:
            return
        if view_id == self._view_id:
            self._missing.discard(peer)
        else:
            self._missing.add(peer)

    def void(self, peer: NodeName) -> None:
        """The stream with `peer` is a new one: wait for its mark again."""
        self._marks.pop(peer, None)
        if peer in self._owners:
            self._missing.add(peer)
