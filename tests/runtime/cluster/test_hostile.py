"""Strangers at the cluster port: whatever they send changes nothing but a counter."""

import gc
import random
import socket
import tracemalloc

import pytest
import trio

from meshlb.cluster import links
from meshlb.cluster.links import DIALS_MAX, HALF_OPEN_MAX
from meshlb.errors import ListenError
from meshlb.model import Address, BootId, NodeName
from meshlb.wire.codec import encode
from meshlb.wire.messages import MemberState, MemberUpdate, Ping
from meshlb.wire.seal import DatagramSealer, Keyring, cluster_label
from tests.runtime.cluster.kit import SECRET, Node, cluster, key_of, proposal, until

FORGERIES = 10_000
BURST = 50


def forgeries(victim: Node, recorded: bytes) -> list[bytes]:
    """What somebody may send who watches the wire but has no secret."""
    rng = random.Random(7)
    lie = MemberUpdate(
        NodeName("b"), victim.address, BootId(1), 2**63, MemberState.DEAD, True, NodeName("b")
    )
    other_secret = DatagramSealer(
        Keyring((b"x" * 32,)), label=cluster_label("shop"), sender=NodeName("b"), boot_id=BootId(5)
    )
    other_cluster = DatagramSealer(
        Keyring((SECRET,)), label=cluster_label("else"), sender=NodeName("b"), boot_id=BootId(5)
    )
    unknown_boot = DatagramSealer(
        Keyring((SECRET,)), label=cluster_label("shop"), sender=NodeName("b"), boot_id=BootId(5)
    )
    made: list[bytes] = []
    while len(made) < FORGERIES:
        flipped = bytearray(recorded)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        made += [
            rng.randbytes(rng.randrange(1, 1_500)),
            recorded[: rng.randrange(len(recorded))] + rng.randbytes(rng.randrange(3)),
            bytes(flipped),
            recorded,
            other_secret.seal(encode([lie])),
            other_cluster.seal(encode([lie])),
            unknown_boot.seal(encode([lie, Ping(1, victim.mesh.name)])),
        ]
    return made[:FORGERIES]


async def test_10_000_forged_datagrams_change_nothing_and_are_counted() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        victim = nodes[0]
        pin = await victim.mesh.table.claim(proposal(key_of(1), "s1"))
        members = victim.mesh.members()
        # A recording of an authentic datagram that was delivered already.
        recorded = nodes[1].sealed_ping_to(victim)
        counters = victim.mesh.counters
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            target = (victim.address.host, victim.address.port)
            stranger.sendto(recorded, target)
            authentic = counters.datagrams_received
            await until(lambda: counters.datagrams_received > authentic)
            refused = sum(counters.datagrams_refused.values())
            made = forgeries(victim, recorded)
            for start in range(0, FORGERIES, BURST):
                for forged in made[start : start + BURST]:
                    stranger.sendto(forged, target)
                expected = refused + start + BURST
                await until(lambda n=expected: sum(counters.datagrams_refused.values()) >= n)
        assert set(counters.datagrams_refused) >= {
            "malformed", "version", "cluster", "key", "unknown", "replay", "seal",
        }  # fmt: skip
        assert victim.mesh.members() == members
        assert victim.look_up(key_of(1)) == pin
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in nodes))


async def test_recordings_of_a_peers_present_start_change_nothing_at_a_node_that_restarted() -> (
    None
):
    ghost = MemberUpdate(
        NodeName("ghost"),
        Address("127.0.0.1", 9),
        BootId(9),
        1,
        MemberState.ALIVE,
        True,
        NodeName("b"),
    )
    async with cluster("a", "b") as (nodes, nursery):
        a, b = nodes
        recorded = [b.part.port._sealer.seal(encode([ghost])) for _ in range(50)]
        await a.stop()
        again = Node("a", join=[b.address], bind=a.address)
        await nursery.start(again.run)
        await until(lambda: again.is_synced)
        refused = again.mesh.counters.datagrams_refused
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for datagram in recorded:
                stranger.sendto(datagram, (a.address.host, a.address.port))
            await until(lambda: refused["unproven"] + refused["replay"] >= len(recorded))
        await until(lambda: again.sees_alive("a", "b"))
        # What the peer says now still arrives.
        received = again.mesh.counters.datagrams_received
        await until(lambda: again.mesh.counters.datagrams_received > received + 3)


async def test_random_bytes_at_the_stream_port_change_nothing_and_are_counted() -> None:
    async with cluster("a", "b") as (nodes, _):
        counters = nodes[0].mesh.counters
        rng = random.Random(11)
        for _ in range(200):
            stream = await trio.open_tcp_stream(nodes[0].address.host, nodes[0].address.port)
            async with stream:
                try:
                    await stream.send_all(b"\x00" + rng.randbytes(rng.randrange(2_000)))
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    """It hung up on us, as it should."""
        await until(lambda: counters.handshakes_failed["not-meshlb"] >= 200)
        await until(lambda: all(node.sees_alive("a", "b") for node in nodes))


async def test_a_flood_of_half_open_handshakes_does_not_keep_a_member_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "HANDSHAKE_S", 120.0)  # A busy machine may take longer to come by.
    async with cluster("a", "b") as (nodes, nursery):
        host, port = nodes[0].address.host, nodes[0].address.port
        stalled = []
        for _ in range(3 * HALF_OPEN_MAX):
            stream = await trio.open_tcp_stream(host, port)
            await stream.send_all(b"\x01\x00\xff half a hello")
            stalled.append(stream)
        counters = nodes[0].mesh.counters
        await until(lambda: counters.handshakes_failed["crowded-out"] >= 2 * HALF_OPEN_MAX)
        late = Node("c", join=[nodes[0].address])
        await nursery.start(late.run)
        await until(lambda: late.is_synced)
        for stream in stalled:
            await trio.aclose_forcefully(stream)


async def test_a_member_beyond_the_bound_on_streams_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster("a", "b") as (nodes, nursery):
        monkeypatch.setattr(links, "LINKS_MAX", 1)
        late = Node("c", join=[nodes[0].address])
        await nursery.start(late.run)
        await until(lambda: late.mesh.counters.refused_by_peers["too-many-connections"] >= 1)
        await until(lambda: nodes[0].sees_alive("a", "b"))
        monkeypatch.undo()
        await until(lambda: late.is_synced)


async def test_dials_under_way_are_bounded_when_nobody_answers() -> None:
    async with cluster("a") as (nodes, _):
        agent = nodes[0].part.agent
        with socket.socket() as silent:
            silent.bind(("0.0.0.0", 0))
            silent.listen(2 * DIALS_MAX)
            port = silent.getsockname()[1]
            for number in range(DIALS_MAX + 5):
                agent.links.dial(Address(f"127.0.1.{number + 1}", port))
            assert len(agent.links._dialling) == DIALS_MAX


async def test_memory_stays_bounded_under_noise() -> None:
    async with cluster("a") as (nodes, _):
        target = (nodes[0].address.host, nodes[0].address.port)
        counters = nodes[0].mesh.counters

        async def noise(count: int) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for index in range(count):
                    sealer = DatagramSealer(
                        Keyring((SECRET,)),
                        label=cluster_label("shop"),
                        sender=NodeName(f"n{index}"),
                        boot_id=BootId(index),
                    )
                    stranger.sendto(sealer.seal(b"\x90"), target)
                    if index % BURST == 0:
                        await trio.sleep(0.001)

        await noise(500)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await noise(3_000)
        await until(lambda: sum(counters.datagrams_refused.values()) >= 3_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 200_000


async def test_a_cluster_port_in_use_is_one_clear_error() -> None:
    async with cluster("a") as (nodes, _):
        with pytest.raises(ListenError, match=r"cannot bind the cluster address 127\.0\.0\.1:"):
            Node("b", bind=nodes[0].address)
