"""Pins that this node holds as backup, and whose home has not told everybody yet.

Owns the list of keys and until when they are watched. Must not know what a pin is.

A home that crashes between the backup's acknowledgement and its own log leaves a pin with the
backup alone, perhaps confirmed to a client. So the backup *announces* such a pin in the home's
place: when the home leaves the view, when the view changes before the home's delta was seen, or
when the home stays silent about it. A key is watched for a while even after the delta was seen,
because a crash may have cut off the same delta to others.

Spec: protocol/spec/pins.md, "Barrier".
"""

from collections import OrderedDict

from meshlb.model import NodeName, SessionKey

HELD_S = 2.0
"""How long a home may take to tell everybody; far above its own time-out for making a pin."""

HELD_MAX = 65_536
"""Beyond, the oldest key is announced at once."""


class _Watch:
    __slots__ = ("home", "is_seen", "until")

    def __init__(self, home: NodeName, until: float) -> None:
        self.home = home
        self.until = until
        self.is_seen = False


class Held:
    """Keys in the order in which they were acknowledged."""

    def __init__(self, *, keys_max: int = HELD_MAX) -> None:
        self._keys_max = keys_max
        # Not a dict: finding the first key of one that is emptied from the front is not O(1).
        self._watches: OrderedDict[SessionKey, _Watch] = OrderedDict()

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, key: SessionKey, home: NodeName, now: float) -> SessionKey | None:
        """Watch `key`, acknowledged to `home`; the key to announce where there are too many."""
        self._watches.pop(key, None)
        self._watches[key] = _Watch(home, now + HELD_S)
        if len(self._watches) <= self._keys_max:
            return None
        oldest = next(iter(self._watches))
        return None if self._watches.pop(oldest).is_seen else oldest

    def see(self, key: SessionKey, teller: NodeName) -> None:
        """`teller` has told this node about `key`."""
        watch = self._watches.get(key)
        if watch is not None and watch.home == teller:
            watch.is_seen = True

    def next_deadline(self) -> float | None:
        """When the oldest watch ends."""
        return next(iter(self._watches.values())).until if self._watches else None

    def overdue(self, now: float) -> list[SessionKey]:
        """The keys to announce because their home stays silent; ends all watches due."""
        silent = []
        while self._watches:
            key, watch = next(iter(self._watches.items()))
            if watch.until > now:
                break
            del self._watches[key]
            if not watch.is_seen:
                silent.append(key)
        return silent

    def release(self, owners: frozenset[NodeName]) -> list[SessionKey]:
        """The keys to announce under a new view of `owners`, before it is marked."""
        due = [
            key
            for key, watch in self._watches.items()
            if not watch.is_seen or watch.home not in owners
        ]
        for key in due:
            del self._watches[key]
        return due
