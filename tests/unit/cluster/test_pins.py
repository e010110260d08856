"""The loop of the claim machine: commit first, then let out, and judge nobody while late."""

import trio
import trio.testing

from meshlb.cluster.clock import TableClock
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.pins import PinAgent
from meshlb.cluster.table import MemberTable
from meshlb.core.sticky.events import ViewChanged
from meshlb.core.sticky.pin import Pin
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.net.reactor import Reactor
from meshlb.wire.messages import Claim, Delta, DeltaAck, Message, Rank, Replicate, ViewMark
from tests.runtime.cluster.kit import key_of, proposal

ME, PEER = NodeName("me"), NodeName("peer")


class World:
    """Store and streams in one diary."""

    def __init__(self) -> None:
        self.pins: dict[SessionKey, Pin] = {}
        self.diary: list[object] = []
        self.clock = TableClock()
        self.reactor = Reactor()
        self.agent = PinAgent(
            name=ME,
            boot_id=BootId(1),
            store=self,
            clock=self.clock,
            streams=self,
            counters=MeshCounters(),
            reactor=self.reactor,
        )
        self.table = MemberTable(self.agent, self.clock)

    def get(self, key: SessionKey) -> Pin | None:
        return self.pins.get(key)

    def put(self, key: SessionKey, pin: Pin) -> None:
        self.pins[key] = pin
        self.diary.append("put")

    def commit(self) -> None:
        self.diary.append("commit")

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        keys = sorted(key for key in self.pins if after is None or key > after)
        return [(key, self.pins[key]) for key in keys[:limit]]

    def send(self, peer: NodeName, message: Message) -> None:
        self.diary.append(message)

    def takes_more(self, peer: NodeName) -> bool:
        return True

    def peers(self) -> list[NodeName]:
        return [PEER]

    def flush(self) -> None:
        self.diary.append("flush")

    def link(self) -> None:
        """A stream to the peer, both owners by the same view."""
        self.agent.turns.opened(PEER, BootId(2))
        self.agent.turns.hear(PEER, [DeltaAck(BootId(0), 0)])
        self.agent.turns.receive(ViewChanged((ME, PEER), view_id=7, quorate=True))
        self.agent.turns.hear(PEER, [ViewMark(7)])


async def test_nothing_leaves_before_the_commit_of_what_led_to_it() -> None:
    world = World()
    world.link()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reactor.run)
        nursery.start_soon(world.agent.run)
        await trio.testing.wait_all_tasks_blocked()
        world.diary.clear()
        world.table.plant(proposal(key_of(1), "s1"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    kinds = [entry if isinstance(entry, str) else type(entry) for entry in world.diary]
    assert kinds == ["put", "commit", Delta, "flush"]


async def test_what_happens_in_one_pass_of_the_loop_is_committed_once() -> None:
    world = World()
    world.link()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reactor.run)
        nursery.start_soon(world.agent.run)
        await trio.testing.wait_all_tasks_blocked()
        world.diary.clear()
        for number in range(100):
            world.table.plant(proposal(key_of(number), "s1"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert world.diary.count("commit") == 1
    (delta,) = [entry for entry in world.diary if isinstance(entry, Delta)]
    assert len(delta.pins) == 100


async def test_a_client_that_goes_away_leaves_its_claim_behind() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reactor.run)
        nursery.start_soon(world.agent.run)
        with trio.move_on_after(0.01):  # no owners yet: the claim has to wait
            await world.table.claim(proposal(key_of(1), "s1"))
        world.agent.turns.receive(ViewChanged((ME,), view_id=7, quorate=True))
        pin = await world.table.claim(proposal(key_of(1), "s2"))
        assert pin.rank is Rank.QUORATE
        nursery.cancel_scope.cancel()


async def test_a_late_loop_reads_before_it_judges(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.link()
    asked = {Claim, Replicate}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reactor.run)
        nursery.start_soon(world.agent.run)
        nursery.start_soon(world.table.claim, proposal(key_of(1), "s1"))
        await trio.testing.wait_all_tasks_blocked()
        assert asked & {type(entry) for entry in world.diary}
        world.diary.clear()
        autojump_clock.autojump_threshold = float("inf")
        autojump_clock.jump(0.5)  # the process stood still
        await trio.testing.wait_all_tasks_blocked()
        assert not asked & {type(entry) for entry in world.diary}
        nursery.cancel_scope.cancel()


async def test_an_unpin_is_on_the_disk_before_the_operator_is_told() -> None:
    world = World()
    world.table.plant(proposal(key_of(1), "s1"))
    world.agent.turns.take()
    world.diary.clear()
    assert world.table.unpin(key_of(1))
    assert world.diary == ["put", "commit"]
