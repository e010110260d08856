"""The pins that are being made at their home, and the claims that wait for each of them.

Owns those, their number, the requests that the backup answers, and when to look at which again.
Must not know how a claim is decided, nor views or peers.

Spec: protocol/spec/pins.md, "Claims".
"""

from collections.abc import Iterable
from dataclasses import dataclass

from meshlb.core.sticky.alarms import Alarms
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.model import NodeName, SessionKey


@dataclass(slots=True)
class Waiter:
    """A claim that has no answer yet."""

    sender: NodeName
    request: int
    proposal: Proposal
    is_hedged: bool


@dataclass(slots=True)
class Making:
    """A key whose pin is being made, or waits for the barrier while `pin` is None."""

    key: SessionKey
    waiters: dict[tuple[NodeName, int], Waiter]
    deadline: float
    silent_at: float
    """When to answer although the backup has said nothing; its word still counts later."""
    pin: Pin | None = None
    backup: NodeName | None = None
    request: int = 0


class Makings:
    """At most one for each key; `waiting` is the number of claims that wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self._makings: dict[SessionKey, Making] = {}
        self._keys: dict[int, SessionKey] = {}
        self._alarms = Alarms()

    def get(self, key: SessionKey) -> Making | None:
        """That of `key`."""
        return self._makings.get(key)

    def all(self) -> list[Making]:
        """All of them."""
        return list(self._makings.values())

    def begin(self, key: SessionKey, waiters: Iterable[Waiter], deadline: float) -> Making:
        """Claims of a key for which none waits yet begin to wait, until `deadline` at most."""
        waiting = {(waiter.sender, waiter.request): waiter for waiter in waiters}
        making = self._makings[key] = Making(key, waiting, deadline, deadline)
        self.waiting += len(waiting)
        self._alarms.set(key, deadline)
        return making

    def join(self, making: Making, waiter: Waiter) -> None:
        """Another claim waits."""
        making.waiters[waiter.sender, waiter.request] = waiter
        self.waiting += 1

    def release(self, making: Making) -> list[Waiter]:
        """The claims that have waited, and do so no more."""
        waiters = list(making.waiters.values())
        making.waiters.clear()
        self.waiting -= len(waiters)
        return waiters

    def end(self, making: Making) -> list[Waiter]:
        """Nothing is being made; the claims that have waited."""
        del self._makings[making.key]
        self._keys.pop(making.request, None)
        self._alarms.clear(making.key)
        return self.release(making)

    # Requests ----------------------------------------------------------------------------

    def asked(self, making: Making, request: int) -> None:
        """The backup is being asked, by a request that takes the place of an earlier one."""
        self._keys.pop(making.request, None)
        making.request = request
        self._keys[request] = making.key

    def by_request(self, request: int) -> Making | None:
        """What an answer belongs to; None for what is void or done."""
        key = self._keys.get(request)
        return None if key is None else self._makings[key]

    # Time --------------------------------------------------------------------------------

    def look_at(self, making: Making, at: float) -> None:
        """Look at it again at that time, and not when it was to be looked at before."""
        self._alarms.set(making.key, at)

    def hasten(self, making: Making, at: float) -> None:
        """Look at it again by that time."""
        self._alarms.hasten(making.key, at)

    def next_deadline(self) -> float | None:
        """When `pop_due` has something to give."""
        return self._alarms.next()

    def pop_due(self, now: float) -> Making | None:
        """What is to be looked at now."""
        key = self._alarms.pop_due(now)
        return None if key is None else self._makings[key]
