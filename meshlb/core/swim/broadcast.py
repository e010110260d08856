"""Gossip: news of members waits here for a ride on packets that go out anyway.

The news told least often goes first, of those the newest. Each is told a fixed number of times
that grows with the logarithm of the cluster and is never below 12: with fewer, small clusters
miss somebody too often (a limit of 4 among 8 members misses one in 4.5 % of broadcasts).

Owns: the queue and the choice of what rides. Must not know: who is told, encoding.
Spec: protocol/spec/membership.md, "Dissemination".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshlb.model import NodeName
from meshlb.wire.messages import MemberUpdate, Message, Ping, PingRequest, PushPull

TRANSMISSIONS_MIN: Final = 12
TRANSMISSIONS_PER_DOUBLING: Final = 3
"""Grows the number of transmissions above 15 members."""

SizeOf = Callable[[Message], int]
"""An upper bound of the encoded size of a message, in bytes."""

_FIXED_BYTES: Final = 32
_ADDRESS_BYTES: Final = 6
"""The port and the lengths around an address."""

_VERSIONS_BYTES: Final = 27
"""Three integers of any size."""


def size_bound_bytes(message: Message) -> int:
    """An upper bound for the small messages of membership, whatever the codec."""
    match message:
        case MemberUpdate(name=name, address=address, reporter=reporter):
            names = len(name) + len(address.host) + len(reporter)
            return _FIXED_BYTES + _ADDRESS_BYTES + _VERSIONS_BYTES + names
        case PingRequest(target=target, address=address):
            return _FIXED_BYTES + _ADDRESS_BYTES + len(target) + len(address.host)
        case Ping(target=target):
            return _FIXED_BYTES + len(target)
        case PushPull(members=members):
            return _FIXED_BYTES + sum(map(size_bound_bytes, members))
        case _:
            return _FIXED_BYTES


def transmissions_for(members: int) -> int:
    """How often a piece of news is told among `members`."""
    return max(TRANSMISSIONS_MIN, TRANSMISSIONS_PER_DOUBLING * members.bit_length())


@dataclass(slots=True)
class _News:
    update: MemberUpdate
    size_bytes: int
    queued: int
    told: int = 0


class BroadcastQueue:
    """The latest news of each member; bounded, as the view is, by one per member."""

    def __init__(self, size_of: SizeOf) -> None:
        self._size_of = size_of
        self._news: dict[NodeName, _News] = {}
        self._queued = 0

    def __len__(self) -> int:
        return len(self._news)

    def push(self, update: MemberUpdate) -> None:
        """Tell `update` from now on, in place of older news of the same member."""
        self._queued += 1
        self._news[update.name] = _News(update, self._size_of(update), self._queued)

    def discard(self, name: NodeName) -> None:
        """Tell nothing more of that member."""
        self._news.pop(name, None)

    def take(self, *, budget_bytes: int, members: int) -> list[MemberUpdate]:
        """What rides on one packet that has `budget_bytes` to spare."""
        if not self._news:
            return []
        chosen: list[MemberUpdate] = []
        limit = transmissions_for(members)
        for news in sorted(self._news.values(), key=lambda news: (news.told, -news.queued)):
            if news.size_bytes > budget_bytes:
                continue
            budget_bytes -= news.size_bytes
            chosen.append(news.update)
            news.told += 1
            if news.told >= limit:
                del self._news[news.update.name]
        return chosen
