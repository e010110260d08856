"""What goes through tunnels arrives, whole and in order, whatever their ends do.

Every tunnel has a plan, drawn from a seed: sizes of writes, pauses, how fast the ends read, who
ends first and how. The suite runs in user space and through the kernel; MESHLB_TUNNELS and
MESHLB_SEED make it larger, or another one.
"""

import os
import random
import socket
from dataclasses import dataclass, field

import pytest
import trio

from meshlb.proxy.relayed_end import CREDIT_BYTES_MAX
from tests.runtime.proxy.test_tunnel import WAYS, Rig, possible, running

TUNNELS = int(os.environ.get("MESHLB_TUNNELS", "300"))
SEED = int(os.environ.get("MESHLB_SEED", "1"))
AT_A_TIME = 64
SIZES = (0, 1, 64, 1_000, 20_000, 300_000, 3 * CREDIT_BYTES_MAX)
SIZE_WEIGHTS = (3, 4, 8, 6, 5, 3, 1)


@pytest.fixture(params=WAYS)
def relay(request: pytest.FixtureRequest) -> int | None:
    return possible(request.param)


@dataclass
class End:
    """One far end of a tunnel, and what it is to do."""

    stream: trio.SocketStream
    rng: random.Random
    payload: bytes
    """What it has to send."""
    reads_slowly: bool
    resets: bool
    """Once it has sent half of its payload."""
    received: bytearray = field(default_factory=bytearray)
    saw_end: bool = False
    saw_reset: bool = False

    async def send(self) -> None:
        left = memoryview(self.payload)[: len(self.payload) // 2 if self.resets else None]
        try:
            while left:
                if self.rng.random() < 0.2:
                    await trio.sleep(self.rng.random() * 0.01)
                size = self.rng.randint(1, self.rng.choice((1, 80, 5_000, 100_000, 1_000_000)))
                await self.stream.send_all(left[:size])
                left = left[size:]
            if self.resets:
                reset(self.stream.socket)
            else:
                await self.stream.send_eof()
        except trio.BrokenResourceError:
            self.saw_reset = True  # The kernel tells of it once, to whoever asks first.

    async def receive(self) -> None:
        try:
            while True:
                if self.reads_slowly and self.rng.random() < 0.3:
                    await trio.sleep(self.rng.random() * 0.02)
                piece = await self.stream.receive_some(self.rng.choice((500, 30_000, 300_000)))
                if not piece:
                    self.saw_end = True
                    return
                self.received += piece
        except trio.BrokenResourceError:
            self.saw_reset = True
        except trio.ClosedResourceError:
            pass  # It has reset its own connection.


def reset(sock: "trio.socket.SocketType") -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


def drawn(stream: trio.SocketStream, seed: str, *, resets: bool) -> End:
    rng = random.Random(seed)
    (size,) = rng.choices(SIZES, SIZE_WEIGHTS)
    return End(
        stream,
        rng,
        rng.randbytes(rng.randint(size // 2, size)),
        reads_slowly=rng.random() < 0.3,
        resets=resets and rng.random() < 0.15,
    )


def judge(client: End, backend: End, seed: str) -> None:
    """What arrived is what was sent, up to a reset."""
    is_whole = not (client.resets or backend.resets)
    for end, peer in ((client, backend), (backend, client)):
        if is_whole:
            assert end.saw_end, seed
            assert not end.saw_reset, seed
            assert end.received == peer.payload, seed
        else:
            assert peer.payload.startswith(end.received), seed
            assert end.saw_reset or end.resets, seed


async def use_tunnel(rig: Rig, seed: str, *, resets: bool) -> tuple[int, int]:
    """Carry out what the seed says; returns how many bytes went up and down."""
    streams = rig.tunnel()
    client, backend = (
        drawn(stream, f"{seed} {name}", resets=resets)
        for name, stream in zip(("client", "backend"), streams, strict=True)
    )
    async with trio.open_nursery() as nursery:
        for end in (client, backend):
            nursery.start_soon(end.send)
            nursery.start_soon(end.receive)
    judge(client, backend, seed)
    for stream in streams:
        await stream.aclose()
        rig.outer.remove(stream)
    return len(backend.received), len(client.received)


async def use_tunnels(rig: Rig, *, resets: bool) -> tuple[int, int]:
    """Many of them at a time, one seed each."""
    moved: list[tuple[int, int]] = []
    limit = trio.CapacityLimiter(AT_A_TIME)

    async def use(seed: str) -> None:
        async with limit:
            moved.append(await use_tunnel(rig, seed, resets=resets))

    async with trio.open_nursery() as nursery:
        for number in range(TUNNELS):
            nursery.start_soon(use, f"{SEED}:{number}")
    up, down = zip(*moved, strict=True)
    return sum(up), sum(down)


async def test_every_byte_arrives_in_order_and_every_end_is_passed_on(relay):
    async with running(relay) as rig:
        moved = await use_tunnels(rig, resets=False)
        await gone(rig)
        assert (rig.counters.relayed_up_bytes, rig.counters.relayed_down_bytes) == moved


async def test_a_reset_is_passed_on_as_a_reset_and_leaves_nothing_behind(relay):
    async with running(relay) as rig:
        await use_tunnels(rig, resets=True)
        await gone(rig)


async def gone(rig: Rig) -> None:
    """All tunnels have ended, and hold nothing."""
    while rig.released < TUNNELS:  # noqa: ASYNC110 - it depends on many tunnels
        await trio.sleep(0.005)
    assert rig.watched == 0
    assert rig.relay is None or rig.relay.seated == 0
