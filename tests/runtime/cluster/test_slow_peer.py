"""A peer that stops reading is cut off and resumes where it was; nobody else notices."""

import secrets
from dataclasses import replace

import pytest
import trio
import trio.lowlevel

from meshlb.cluster import socket_link
from meshlb.cluster.greeting import greet
from meshlb.core.swim.timings import LOCAL
from meshlb.model import BootId, MemberState, NodeName
from meshlb.wire.codec import decode, encode
from meshlb.wire.handshake import EPHEMERAL_BYTES, Established, Identity, Initiator
from meshlb.wire.messages import Delta, DeltaAck, MemberUpdate, Message
from meshlb.wire.seal import Keyring, cluster_label
from tests.runtime.cluster.kit import FREE, SECRET, Node, cluster, key_of, proposal, until

SLOW = NodeName("slow")
BOOT = BootId(77)
PINS = 40_000
"""More than the buffers of the kernel take, less than the log holds."""


async def connect(node: Node) -> tuple[trio.SocketStream, Established]:
    """A stream to `node` in the hands of the test, as a member that nobody has heard of."""
    stream = await trio.open_tcp_stream(node.address.host, node.address.port)
    me = Identity(SLOW, BOOT, FREE)
    side = Initiator(
        me,
        keyring=Keyring((SECRET,)),
        label=cluster_label("shop"),
        ephemeral=secrets.token_bytes(EPHEMERAL_BYTES),
    )
    established = await greet(stream, side, lambda peer: None)
    assert isinstance(established, Established)
    return stream, established


async def say(stream: trio.SocketStream, established: Established, *messages: Message) -> None:
    await stream.send_all(established.sealer.seal(encode(messages)))


async def read_log(stream: trio.SocketStream, established: Established, upto: int) -> list[Delta]:
    deltas: list[Delta] = []
    chunk = established.rest
    while not deltas or deltas[-1].upto_seq < upto:
        for plain in established.opener.receive(chunk):
            deltas += [message for message in decode(plain) if isinstance(message, Delta)]
        chunk = bytes(await stream.receive_some(65_536))
        assert chunk, "cut off"
    return deltas


async def test_a_peer_that_stops_reading_delays_nobody_and_resumes_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_link, "STALL_S", 1.0)
    # `slow` answers no ping; nobody shall give it up while it reads on a busy machine.
    async with cluster("a", "b", timings=replace(LOCAL, suspicion_s=120.0)) as (nodes, _):
        a, b = nodes
        stream, established = await connect(a)
        hello = MemberUpdate(SLOW, FREE, BOOT, 1, MemberState.ALIVE, False, SLOW)
        await say(stream, established, hello, DeltaAck(BootId(0), 0))
        await until(lambda: "slow" in a.states())
        closed = a.mesh.counters.links_closed
        for start in range(0, PINS, 500):
            for number in range(start, start + 500):
                a.mesh.table.plant(proposal(key_of(number), "s1"))
            await trio.lowlevel.checkpoint()
        await until(lambda: len(b.store.pins) == PINS)
        await until(lambda: closed["stalled"] + closed["gone"] == 1)
        await stream.aclose()

        # From here on it reads as fast as the machine lets it, and says nothing meanwhile.
        monkeypatch.undo()
        monkeypatch.setattr(socket_link, "SILENCE_S", 120.0)
        stream, established = await connect(a)
        position = DeltaAck(a.mesh._boot_id, 1_000)
        await say(stream, established, hello, position)
        deltas = await read_log(stream, established, PINS)
        assert deltas[0].after_seq == 1_000
        assert sum(len(delta.pins) for delta in deltas) == PINS - 1_000
        await stream.aclose()
