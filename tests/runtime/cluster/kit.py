"""Members on loopback sockets in one trio process, with tables in dicts."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from meshlb.cluster.keys import ClusterKeys
from meshlb.cluster.mesh import Mesh
from meshlb.cluster.options import ClusterOptions
from meshlb.cluster.participation import Participation
from meshlb.config.kinds import DnsSeed
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.core.swim.timings import LOCAL, Timings
from meshlb.model import (
    Address,
    BackendName,
    KeySource,
    MemberState,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.net.mutual_tls import MutualTls
from meshlb.net.reactor import Reactor
from meshlb.wire.codec import encode
from meshlb.wire.messages import BackendOverride, Ping

SECRET = b"s" * 32
FREE = Address("127.0.0.1", 0)
PATIENCE_S = 60.0
"""How long a test waits for what must happen; it never asserts how fast."""


class DictStore:
    """A table in memory."""

    def __init__(self) -> None:
        self.pins: dict[SessionKey, Pin] = {}
        self.commits = 0

    def get(self, key: SessionKey) -> Pin | None:
        return self.pins.get(key)

    def put(self, key: SessionKey, pin: Pin) -> None:
        self.pins[key] = pin

    def commit(self) -> None:
        self.commits += 1

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        keys = sorted(key for key in self.pins if after is None or key > after)
        return [(key, self.pins[key]) for key in keys[:limit]]


class Node:
    """A mesh and its store; `stop` is a crash: nothing more is said."""

    def __init__(
        self,
        name: str,
        *,
        join: Sequence[Address | DnsSeed] = (),
        secrets: tuple[bytes, ...] = (SECRET,),
        cluster: str = "shop",
        bind: Address = FREE,
        pins: dict[SessionKey, Pin] | None = None,
        data_dir: Path | None = None,
        is_strict: bool = False,
        last_contact: float | None = None,
        tls: MutualTls | None = None,
        timings: Timings = LOCAL,
    ) -> None:
        self.store = DictStore()
        self.store.pins.update(pins or {})
        self.words: list[BackendOverride] = []
        self._reactor = Reactor()
        self.options = ClusterOptions(
            name=cluster,
            bind=bind,
            join=tuple(join),
            secrets=secrets,
            timings=timings,
            is_strict=is_strict,
            tls=tls,
        )
        self.mesh = Mesh(
            NodeName(name),
            reactor=self._reactor,
            cluster=self.options,
            store=self.store,
            data_dir=data_dir,
            last_contact=last_contact,
            on_override=self.words.append,
        )
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()

    @property
    def keys(self) -> ClusterKeys:
        assert self.mesh.keys is not None
        return self.mesh.keys

    @property
    def address(self) -> Address:
        return self.mesh.address

    @property
    def part(self) -> Participation:
        """What it has because it is in a cluster."""
        assert self.mesh._part is not None
        return self.mesh._part

    def dropped(self, key: SessionKey) -> None:
        """As the sweep drops what was dead for long."""
        self.mesh._pins.turns.buckets.replace(key, self.store.pins.pop(key), None)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            with self._scope:
                nursery.start_soon(self._reactor.run)
                await self.mesh.run(task_status=task_status)
            nursery.cancel_scope.cancel()
        self._reactor.close()
        self._stopped.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._stopped.wait()

    def sealed_ping_to(self, other: "Node") -> bytes:
        """A datagram of this node that it never sent by itself; authentic once."""
        return self.part.port._sealer.seal(encode([Ping(2**40, other.mesh.name)]))

    def look_up(self, key: SessionKey) -> Pin | None:
        return self.mesh.table.look_up(key, self.mesh.clock.now())

    def states(self) -> dict[str, MemberState]:
        return {member.name: member.state for member in self.mesh.members()}

    def sees_alive(self, *names: str) -> bool:
        return self.states() == dict.fromkeys(names, MemberState.ALIVE)

    @property
    def is_synced(self) -> bool:
        return self.mesh.readiness()[0]


@asynccontextmanager
async def cluster(
    *names: str, is_strict: bool = False, timings: Timings = LOCAL
) -> AsyncIterator[tuple[list[Node], trio.Nursery]]:
    """Nodes that all see each other alive and in sync, and the nursery they run in."""
    async with trio.open_nursery() as nursery:
        nodes: list[Node] = []
        for name in names:
            seeds = [node.address for node in nodes]
            node = Node(name, join=seeds, is_strict=is_strict, timings=timings)
            nodes.append(node)
            await nursery.start(node.run)
        await until(lambda: all(n.sees_alive(*names) and owners(n) == len(names) for n in nodes))
        yield nodes, nursery
        nursery.cancel_scope.cancel()


def owners(node: Node) -> int:
    """How many members are in sync, by the view of `node`."""
    return sum(member.synced for member in node.mesh.members())


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what must happen."""
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - what is waited for sets no event
            await trio.sleep(0.005)


def key_of(number: int) -> SessionKey:
    """Keys that spread over all slots."""
    return SessionKey((number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).to_bytes(16, "big"))


def proposal(key: SessionKey, backend: str, ttl_s: float = 600.0) -> Proposal:
    return Proposal(
        key=key,
        pool=PoolName("app"),
        backend=BackendName(backend),
        by=KeySource.HEADER,
        ttl_s=ttl_s,
        max_age_s=None,
    )
