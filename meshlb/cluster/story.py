"""Why a key goes where it goes, put together for `meshlb explain`.

Owns nothing that is decided: it reads the table, the view and the history of this node.
"""

from dataclasses import dataclass

from meshlb.cluster.history import History, Note
from meshlb.core.sticky.homes import Homes
from meshlb.core.sticky.pin import Pin
from meshlb.model import NodeName, SessionKey


@dataclass(frozen=True, slots=True)
class KeyStory:
    """By one node's own replica."""

    pin: Pin
    home: NodeName | None
    backup: NodeName | None
    notes: tuple[Note, ...]


class Stories:
    """One per node; keeps the homes of the last owners, which take a moment to work out."""

    def __init__(self) -> None:
        self._homes = Homes(())

    def tell(
        self, key: SessionKey, pin: Pin, *, owners: tuple[NodeName, ...], history: History
    ) -> KeyStory:
        """The story of `key`, which `pin` routes, under the view of `owners`."""
        if self._homes.owners != frozenset(owners):
            self._homes = Homes(owners)
        home, backup = self._homes.holders(key)
        return KeyStory(pin, home, backup, history.of(key))
