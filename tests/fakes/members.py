"""Members in one thread whose streams are lists, so that a test can lose what it likes."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.repair import Sync
from meshlb.cluster.turns import PinWord, Turns
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import (
    Message,
)
from tests.fakes.pins import NOW, DictStore, a_proposal
from tests.runtime.cluster.kit import key_of

SECONDS_OF_A_TEST = 120.0

Sent = TypeVar("Sent")


class Store(DictStore):
    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        keys = sorted(key for key in self if after is None or key > after)
        return [(key, self[key]) for key in keys[:limit]]

    def commit(self) -> None:
        pass


class Member:
    """One end of every stream of the world."""

    def __init__(self, world: "World", name: str, boot_id: int) -> None:
        self.world = world
        self.name = NodeName(name)
        self.store = Store()
        self.counters = MeshCounters()
        self.has_room = True
        self.turns = Turns(
            name=self.name,
            log=ReplicationLog(BootId(boot_id)),
            store=self.store,
            streams=self,
            counters=self.counters,
            now=lambda: world.now,
            on_work=lambda: None,
            on_done=lambda done: None,
        )

    def send(self, peer: NodeName, message: Message) -> None:
        self.world.carry(self.name, peer, message)

    def takes_more(self, peer: NodeName) -> bool:
        return self.has_room

    def peers(self) -> list[NodeName]:
        return [peer for one, peer in self.world.links if one == self.name]

    def flush(self) -> None:
        pass

    def plant(self, number: int, backend: str = "s1", ttl_s: float = 1_000.0) -> SessionKey:
        key = key_of(number)
        replica = self.turns.claims.replica
        pin, _ = replica.plant(a_proposal(key, backend, ttl_s=ttl_s), epoch=0, now=self.world.now)
        self.turns.stored(key, pin)
        return key

    def drop_one(self) -> None:
        """As the sweep drops what was dead for long."""
        key, pin = self.store.popitem()
        self.turns.buckets.replace(key, pin, None)

    def sync(self, peer: str) -> Sync | None:
        return self.turns.repair.sync().get(NodeName(peer))


class World:
    def __init__(self, *names: str) -> None:
        self.now = NOW
        self.links: set[tuple[NodeName, NodeName]] = set()
        self.wire: deque[tuple[NodeName, NodeName, Message]] = deque()
        self.carried: list[Message] = []
        self.loses: Callable[[Message], bool] = lambda message: False
        self.members = {NodeName(n): Member(self, n, boot) for boot, n in enumerate(names, 1)}
        for one in list(names):
            for other in names:
                if one < other:
                    self.link(one, other)

    def __getitem__(self, name: str) -> Member:
        return self.members[NodeName(name)]

    def carry(self, sender: NodeName, receiver: NodeName, message: Message) -> None:
        self.carried.append(message)
        if (sender, receiver) in self.links and not self.loses(message):
            self.wire.append((sender, receiver, message))

    def link(self, one: str, other: str) -> None:
        a, b = NodeName(one), NodeName(other)
        self.links |= {(a, b), (b, a)}
        self[one].turns.opened(b, BootId(2))
        self[other].turns.opened(a, BootId(1))

    def cut(self, one: str, other: str) -> None:
        a, b = NodeName(one), NodeName(other)
        self.links -= {(a, b), (b, a)}
        self[one].turns.closed(b)
        self[other].turns.closed(a)

    def settle(self) -> None:
        """Deliver everything that is under way and what follows from it."""
        for member in self.members.values():
            member.turns.take()
        while self.wire:
            sender, receiver, message = self.wire.popleft()
            if isinstance(message, PinWord):
                self.members[receiver].turns.hear(sender, [message])

    def run(self, seconds: float = 0.0, *, until: Callable[[], bool] = lambda: False) -> None:
        end = self.now + (seconds or SECONDS_OF_A_TEST)
        self.settle()
        while self.now < end and not until():
            due = min(member.turns.next_deadline() for member in self.members.values())
            self.now = min(max(self.now, due), end)
            self.settle()
        assert seconds or until(), "it never came about"

    def are_alike(self) -> bool:
        tables = [
            {key: replace(pin, expires_at=0.0) for key, pin in member.store.items()}
            for member in self.members.values()
        ]
        return all(table == tables[0] for table in tables)

    def sent(self, kind: type[Sent]) -> list[Sent]:
        return [message for message in self.carried if isinstance(message, kind)]
