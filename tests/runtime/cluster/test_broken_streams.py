"""A proven peer whose stream breaks off in odd ways: it is cut off, and nobody else notices."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from meshlb.cluster import socket_link
from meshlb.wire.codec import encode
from meshlb.wire.handshake import Established
from meshlb.wire.messages import DeltaAck, Ping
from tests.runtime.cluster.kit import cluster, key_of, proposal, until
from tests.runtime.cluster.test_slow_peer import BOOT, SLOW, connect, say

FRAME = encode([Ping(number, SLOW) for number in range(100)])

Break = Callable[[trio.SocketStream, Established], Awaitable[None]]


async def stall_in_mid_frame(stream: trio.SocketStream, established: Established) -> None:
    frame = established.sealer.seal(FRAME)
    await stream.send_all(frame[: len(frame) // 2])


async def trickle_in_mid_frame(stream: trio.SocketStream, established: Established) -> None:
    """A byte now and then is no sign of life."""
    for byte in established.sealer.seal(FRAME):
        try:
            await stream.send_all(bytes((byte,)))
        except trio.BrokenResourceError:
            return
        await trio.sleep(0.01)


async def close_half(stream: trio.SocketStream, established: Established) -> None:
    await stream.send_eof()


async def say_nothing(stream: trio.SocketStream, established: Established) -> None:
    """Neither more bytes nor an end."""


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (stall_in_mid_frame, "silent"),
        (trickle_in_mid_frame, "silent"),
        (say_nothing, "silent"),
        (close_half, "hung-up"),
    ],
)
async def test_a_peer_whose_stream_breaks_off_is_cut_off_and_nobody_else_notices(
    monkeypatch: pytest.MonkeyPatch, broken: Break, reason: str
) -> None:
    monkeypatch.setattr(socket_link, "SILENCE_S", 1.5)
    monkeypatch.setattr(socket_link, "KEEPALIVE_S", 0.2)
    async with cluster("a", "b", "c") as (nodes, nursery):
        a, b, _ = nodes
        links = a.part.links
        stream, established = await connect(a)
        await say(stream, established, DeltaAck(BOOT, 0))
        await until(lambda: links.to(SLOW) is not None)

        nursery.start_soon(broken, stream, established)
        await until(lambda: links.to(SLOW) is None)

        assert a.mesh.counters.links_closed[reason] >= 1
        await b.mesh.table.claim(proposal(key_of(1), "s1"))
        await until(lambda: a.look_up(key_of(1)) is not None)
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in nodes))
        await stream.aclose()
