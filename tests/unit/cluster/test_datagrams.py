"""The UDP port over real loopback sockets."""

import socket
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager

import pytest
import trio

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.datagrams import DatagramPort
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.challenge import Challenge, ChallengeAnswer
from meshlb.wire.codec import encode
from meshlb.wire.limits import REPLAY_SENDERS_MAX
from meshlb.wire.messages import (
    Ack,
    MemberUpdate,
    Message,
    Ping,
    PullRequest,
)
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
        self.opener = DatagramOpener(SECRET, label=SHOP)
        self.port = DatagramPort(
            bound,
            sealer=self.sealer,
            opener=self.opener,
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
    there.opener.prove(NodeName("here"), BootId(1), counter=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.port.run, here.arrive)
        nursery.start_soon(there.port.run, there.arrive)
        yield here, there
        nursery.cancel_scope.cancel()


async def reach(at_least: int, counted: Sized) -> None:
    with trio.fail_after(60):
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
    [
        (b"\xc1", "messages"),
        (encode([PullRequest(1)]), "messages"),
        (encode([Challenge(1), Ack(1)]), "messages"),
        (encode([ChallengeAnswer(1), ChallengeAnswer(1)]), "messages"),
        (None, "malformed"),
    ],
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


async def test_who_knows_no_challenge_is_trusted_from_its_handshake_on() -> None:
    async with two_ports() as (here, there):
        here.port.trust(NodeName("there"), BootId(1))
        there.port.send(here.address, (Ack(1),))
        there.port.send(here.address, (Ack(2),))
        await reach(2, here.arrived)
        assert here.counters.datagrams_refused == {}
        assert there.arrived == []


async def test_what_only_a_later_version_knows_is_passed_over_and_counted() -> None:
    async with two_ports() as (here, there):
        later = here.sealer.seal(bytes.fromhex("92" + "93ccfa01a178" + "920302"))
        there.port._socket.sendto(later, (there.address.host, there.address.port))
        await reach(1, there.arrived)
        assert [messages for *_, messages in there.arrived] == [(Ack(2),)]
        assert there.counters.messages_unknown == 1


class TestAChallenge:
    """`there` has started anew: it knows the boot of `here`, and not where its counter stands."""

    @pytest.fixture
    async def ports(self) -> AsyncIterator[tuple[Port, Port]]:
        async with two_ports() as (here, there):
            there.opener._peers[NodeName("here"), BootId(1)] = None
            here.port.introduce(NodeName("there"), BootId(1))
            here.opener.prove(NodeName("there"), BootId(1), counter=0)
            yield here, there

    async def test_is_answered_by_a_peer_that_is_there_and_its_word_still_arrives(
        self, ports: tuple[Port, Port]
    ) -> None:
        here, there = ports
        here.port.send(there.address, (Ack(1),))
        await reach(1, there.arrived)
        here.port.send(there.address, (Ack(2),))
        await reach(2, there.arrived)
        assert [messages for *_, messages in there.arrived] == [(Ack(1),), (Ack(2),)]
        assert there.counters.datagrams_refused == {"unproven": 1}
        assert here.arrived == []

    async def test_may_be_answered_twice(self, ports: tuple[Port, Port]) -> None:
        here, there = ports
        here.port.send(there.address, (Ack(1),))
        here.port.send(there.address, (Ack(2),))
        with trio.fail_after(60):
            while there.counters.datagrams_received < 3:  # noqa: ASYNC110 - a plain number
                await trio.sleep(0.001)
        assert there.counters.datagrams_refused == {"unproven": 2}
        assert [messages for *_, messages in there.arrived] == [(Ack(2),)]

    async def test_played_again_makes_nobody_repeat_itself(self, ports: tuple[Port, Port]) -> None:
        here, there = ports
        here.port.send(there.address, (Ack(1),))
        await reach(1, there.arrived)
        sent = here.counters.datagrams_sent
        for _ in range(5):
            challenge = there.sealer.seal(encode([Challenge(1)]))
            there.port._socket.sendto(challenge, (here.address.host, here.address.port))
        with trio.fail_after(60):
            while here.counters.datagrams_sent < sent + 5:  # noqa: ASYNC110 - a plain number
                await trio.sleep(0.001)
        here.port.send(there.address, (Ack(2),))
        await reach(2, there.arrived)
        assert here.counters.datagrams_sent == sent + 6
        assert len(there.arrived) == 2

    async def test_is_not_passed_by_recordings_however_many(self, ports: tuple[Port, Port]) -> None:
        here, there = ports
        recorded = [here.sealer.seal(encode([Ack(n)])) for n in range(20)]
        recorded += [here.sealer.seal(encode([ChallengeAnswer(n)])) for n in range(20)]
        recorded += [here.sealer.seal(encode([Challenge(n)])) for n in range(20)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.settimeout(60)
            for datagram in recorded * 2:
                attacker.sendto(datagram, (there.address.host, there.address.port))
                heard = await trio.to_thread.run_sync(attacker.recv, 2_000)
                assert len(heard) <= len(datagram) + len(encode([Challenge(2**64 - 1)]))
            attacker.setblocking(False)
            with pytest.raises(BlockingIOError):
                attacker.recv(2_000)
        assert there.arrived == []
        assert there.counters.datagrams_refused == {"unproven": 80}
        assert not there.opener.is_proven(NodeName("here"), BootId(1))

    async def test_has_one_nonce_a_peer_and_their_number_is_bounded(
        self, ports: tuple[Port, Port]
    ) -> None:
        here, there = ports
        there.port._nonces.update(
            {(NodeName("old"), BootId(n)): n for n in range(REPLAY_SENDERS_MAX)}
        )
        here.port.send(there.address, (Ack(1),))
        await reach(1, there.counters.datagrams_refused)
        assert len(there.port._nonces) <= REPLAY_SENDERS_MAX
