"""The UDP port over real loopback sockets."""

import socket
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager

import pytest
import trio

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.datagrams import DatagramPort
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.codec import encode
from meshlb.wire.messages import Ack, MemberUpdate, Message, Ping, PullRequest
from meshlb.wire.seal import DatagramOpener, DatagramSealer, Keyring, cluster_label

SECRET = Keyring((b"s" * 32,))
SHOP = cluster_label("shop")
NOBODY = Address("127.0.0.1", 9)


class Port:
    """A port, and all that arrived at it."""

    def __init__(self, name: str) -> None:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", bound.getsockname()[1])
        self.counters = MeshCounters()
        self.arrived: list[tuple[NodeName, BootId, Address, tuple[Message, ...]]] = []
        self.sealer = DatagramSealer(SECRET, label=SHOP, sender=NodeName(name), boot_id=BootId(1))
        self.port = DatagramPort(
            bound,
            sealer=self.sealer,
            opener=DatagramOpener(SECRET, label=SHOP),
            counters=self.counters,
        )

    def arrive(
        self, sender: NodeName, boot_id: BootId, source: Address, messages: tuple[Message, ...]
    ) -> None:
        self.arrived.append((sender, boot_id, source, messages))


@asynccontextmanager
async def two_ports() -> AsyncIterator[tuple[Port, Port]]:
    here, there = Port("here"), Port("there")
    there.port.introduce(NodeName("here"), BootId(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.port.run, here.arrive)
        nursery.start_soon(there.port.run, there.arrive)
        yield here, there
        nursery.cancel_scope.cancel()


async def reach(at_least: int, counted: Sized) -> None:
    with trio.fail_after(5):
        while len(counted) < at_least:  # noqa: ASYNC110 - what grows sets no event
            await trio.sleep(0.001)


async def test_messages_arrive_with_their_sender_and_source() -> None:
    async with two_ports() as (here, there):
        here.port.send(there.address, (Ping(1, NodeName("there")), Ack(2)))
        await reach(1, there.arrived)
        assert there.arrived == [
            (NodeName("here"), BootId(1), here.address, (Ping(1, NodeName("there")), Ack(2)))
        ]
        assert (here.counters.datagrams_sent, there.counters.datagrams_received) == (1, 1)


async def test_more_messages_than_fit_a_datagram_travel_in_several() -> None:
    name = NodeName("n" * 63)
    updates = tuple(
        MemberUpdate(name, NOBODY, BootId(n), 1, MemberState.ALIVE, True, name) for n in range(100)
    )
    async with two_ports() as (here, there):
        here.port.send(there.address, updates)
        await reach(here.counters.datagrams_sent, there.arrived)
        assert here.counters.datagrams_sent > 1
        assert tuple(m for *_, messages in there.arrived for m in messages) == updates


@pytest.mark.parametrize(
    ("plain", "reason"),
    [(b"\xc1", "messages"), (encode([PullRequest(1)]), "messages"), (None, "malformed")],
)
async def test_an_authentic_datagram_that_says_nothing_valid_is_counted(
    plain: bytes | None, reason: str
) -> None:
    async with two_ports() as (here, there):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            datagram = b"" if plain is None else here.sealer.seal(plain)
            sender.sendto(datagram, (there.address.host, there.address.port))
        await reach(1, there.counters.datagrams_refused)
        assert there.counters.datagrams_refused == {reason: 1}
        assert there.arrived == []


async def test_a_peer_that_is_gone_costs_nothing_but_a_counter() -> None:
    async with two_ports() as (here, there):
        for seq in range(20):
            here.port.send(NOBODY, (Ack(seq),))
            await trio.lowlevel.checkpoint()
        here.port.send(there.address, (Ack(99),))
        here.port.send(there.address, (Ack(99),))
        await reach(1, there.arrived)
        assert here.counters.datagrams_sent + here.counters.datagrams_unsent == 22


async def test_a_closed_port_drops_what_it_is_given() -> None:
    async with two_ports() as (here, there):
        pass
    here.port.send(there.address, (Ack(1),))
    assert here.counters.datagrams_unsent == 1
