"""Tunnels over real sockets: order, back-pressure, half-close, resets, idle time-outs."""

import hashlib
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from meshlb.config.schema import BackendSettings
from meshlb.net.bpf.relay_program import RelayProgram
from meshlb.net.pipe import Pipe
from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.kernel_relay import MESSAGES_MIN, KernelRelay
from meshlb.proxy.stream import Channel, Stream
from meshlb.proxy.tunnel import RECHECK_S_MAX, Lease, Tunnel, TunnelEnd
from tests.fakes.privileges import need_kernel_relay
from tests.runtime.proxy.rig import eventually

TEST_S_MAX = 300

WAYS = {"reactor": None, "kernel": 0, "kernel after messages": MESSAGES_MIN}
"""How many messages it takes until a tunnel's bytes go through the kernel alone; None: it never
comes to that."""


def possible(way: str) -> int | None:
    """One of `WAYS`; skips the test where there is no such way."""
    messages_min = WAYS[way]
    if messages_min is not None:
        need_kernel_relay()
    return messages_min


@pytest.fixture(params=WAYS)
def relay(request: pytest.FixtureRequest) -> int | None:
    return possible(request.param)


def before_its_tunnel(reactor: Reactor, sock: Channel) -> Stream:
    """Any stream that nothing is watched of yet will do; this one is native where others are."""
    return TunnelEnd(reactor, sock)


class Rig:
    """Tunnels between outer sockets, and what they reported."""

    def __init__(self, relay: int | None) -> None:
        self.counters = ProxyCounters()
        self.reactor = Reactor()
        self.relay: KernelRelay | None = None
        if relay is not None:
            self.relay = KernelRelay(self.reactor, RelayProgram(2_000), messages_min=relay)
        self.renewals = 0
        self.released = 0
        self.outer: list[trio.SocketStream] = []
        self.tunnels: list[Tunnel] = []

    def tunnel_ended(self) -> None:
        pass

    def tunnel(self, *, idle_s: float = 60.0, renew_every_s: float = 60.0):
        client, inner_client = tcp_pair()
        backend, inner_backend = tcp_pair()
        streams = [before_its_tunnel(self.reactor, s) for s in (inner_client, inner_backend)]
        for stream in streams:
            stream.open(0)

        lease = Lease(
            Backend(BackendSettings(name="s1", address="127.0.0.1:1")),
            key=None,
            ttl_s=60.0,
            renew_every_s=renew_every_s,
            idle_s=idle_s,
            is_websocket=False,
            host=self,
        )
        pair = self.relay.pair(*streams) if self.relay is not None else None
        assert pair is not None or self.relay is None
        down, up = pair or [TunnelEnd.of(self.reactor, stream) for stream in streams]
        tunnel = Tunnel(self, lease, downstream=down, upstream=up, reactor=self.reactor)
        self.tunnels.append(tunnel)
        tunnel.start()
        ends = trio.SocketStream(client), trio.SocketStream(backend)
        self.outer += ends
        return ends

    @property
    def watched(self) -> int:
        """Descriptors of tunnels in the reactor."""
        return len(self.reactor) - (self.relay is not None)

    def renew(self, lease: Lease) -> None:
        self.renewals += 1

    def release(self, tunnel: Tunnel) -> None:
        self.released += 1


def tcp_pair() -> tuple["trio.socket.SocketType", socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outer = socket.create_connection(server.getsockname())
        inner, _ = server.accept()
    inner.setblocking(False)
    return trio.socket.from_stdlib_socket(outer), inner


@asynccontextmanager
async def running(relay: int | None) -> AsyncIterator[Rig]:
    rig = Rig(relay)
    try:
        with trio.fail_after(TEST_S_MAX):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.reactor.run)
                if rig.relay is not None:
                    nursery.start_soon(rig.relay.run)
                yield rig
                nursery.cancel_scope.cancel()
    finally:
        for tunnel in rig.tunnels:
            tunnel.close()
        if rig.relay is not None:
            rig.relay.close()
        for stream in rig.outer:
            stream.socket.close()
        rig.reactor.close()


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_bytes_go_both_ways_and_are_counted_per_direction(relay):
    async with running(relay) as rig:
        client, backend = rig.tunnel()
        await client.send_all(b"ping")
        assert await backend.receive_some() == b"ping"
        await backend.send_all(b"pong!")
        assert await client.receive_some() == b"pong!"
        await client.send_eof()
        await backend.send_eof()
        assert await backend.receive_some() == b""
        assert await client.receive_some() == b""
        assert (rig.counters.relayed_up_bytes, rig.counters.relayed_down_bytes) == (4, 5)
        assert rig.released == 1
        assert rig.watched == 0


async def test_a_half_closed_tunnel_goes_on_in_the_other_direction(relay):
    async with running(relay) as rig:
        client, backend = rig.tunnel()
        await client.send_all(b"request")
        await client.send_eof()
        assert await read_all(backend) == b"request"
        for _ in range(3):
            await backend.send_all(b"more ")
            await trio.sleep(0.01)
        assert rig.released == 0
        await backend.aclose()
        assert await read_all(client) == b"more more more "
        assert rig.released == 1


async def test_a_slow_reader_gets_every_byte_after_the_sender_has_closed(relay):
    payload = random.Random(7).randbytes(8 << 20)
    async with running(relay) as rig:
        client, backend = rig.tunnel()

        async def send() -> None:
            await client.send_all(payload)
            await client.aclose()

        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while chunk := await backend.receive_some(300_000):
                received += chunk
                await trio.sleep(0.001)
        assert hashlib.sha256(received).digest() == hashlib.sha256(payload).digest()
        await backend.aclose()


async def test_a_slow_reader_holds_its_sender_back_instead_of_filling_memory(relay):
    async with running(relay) as rig:
        client, _backend = rig.tunnel()
        sent = 0
        with trio.move_on_after(0.5):
            while True:
                sent += await client.socket.send(b"x" * 65_536)
        assert sent < 64 << 20


async def test_bulk_goes_from_socket_to_socket_without_being_read():
    class Counting(Pipe):
        carried = 0

        def carry(self, source_fd: int, target_fd: int) -> tuple[int, bytes]:
            taken, left = super().carry(source_fd, target_fd)
            self.carried += taken - len(left)
            return taken, left

    payload = random.Random(9).randbytes(8 << 20)
    async with running(None) as rig:
        assert rig.reactor.pipe is not None
        rig.reactor.pipe.close()
        pipe = rig.reactor.pipe = Counting()
        client, backend = rig.tunnel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, payload)
            received = bytearray()
            while len(received) < len(payload):
                received += await backend.receive_some(300_000)
        assert received == payload
        assert pipe.carried > len(payload) / 4
        carried = pipe.carried
        for _ in range(3):
            await client.send_all(b"message")
            assert await backend.receive_some() == b"message"
        assert pipe.carried - carried <= len(b"message"), "messages are not worth it"
        await client.aclose()
        await backend.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.counters.relayed_up_bytes == len(payload) + 3 * len(b"message")


async def test_both_directions_at_once_stay_in_order(relay):
    async with running(relay) as rig:
        client, backend = rig.tunnel()
        up, down = random.Random(1).randbytes(3 << 20), random.Random(2).randbytes(3 << 20)
        got: dict[str, bytes] = {}

        async def send(stream: trio.SocketStream, payload: bytes) -> None:
            view, rng = memoryview(payload), random.Random(3)
            while view:
                size = rng.randint(1, 200_000)
                await stream.send_all(view[:size])
                view = view[size:]
            await stream.send_eof()

        async def receive(name: str, stream: trio.SocketStream) -> None:
            got[name] = await read_all(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client, up)
            nursery.start_soon(send, backend, down)
            nursery.start_soon(receive, "up", backend)
            nursery.start_soon(receive, "down", client)
        assert got == {"up": up, "down": down}


async def test_a_reset_at_one_end_is_a_reset_at_the_other(relay):
    async with running(relay) as rig:
        client, backend = rig.tunnel()
        client.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        client.socket.close()
        with pytest.raises(trio.BrokenResourceError):
            await backend.receive_some()
        assert rig.released == 1


async def test_a_closed_end_does_not_push_its_last_bytes_past_the_bound(relay):
    async with running(relay) as rig:
        client, backend = rig.tunnel()
        await client.send_eof()
        assert await read_all(backend) == b""
        sent = 0
        while not rig.tunnels[0].downstream.backlog:
            sent += await backend.socket.send(bytes(10_000))
            await trio.sleep(0.0005)
        sent += await backend.socket.send(bytes(30_000))
        held = len(rig.tunnels[0].downstream.backlog)
        await backend.aclose()
        await trio.sleep(0.05)
        # The kernel may have found room for some of it, though nobody has read.
        assert len(rig.tunnels[0].downstream.backlog or b"") <= held
        assert len(await read_all(client)) == sent
        assert rig.released == 1


async def test_an_idle_tunnel_is_closed_and_a_living_one_renews_its_lease(relay, unhurried):
    async with running(relay) as rig:
        client, backend = rig.tunnel(idle_s=0.6, renew_every_s=0.1)
        for _ in range(8):
            await client.send_all(b".")
            await backend.receive_some()
            await trio.sleep(0.1)
        assert rig.released == 0
        assert rig.renewals >= 2
        assert await client.receive_some() == b""
        assert rig.released == 1


async def test_a_tunnel_that_has_ended_is_not_held_until_it_would_have_been_idle(relay):
    async with running(relay) as rig:
        client, backend = rig.tunnel(idle_s=3_600.0, renew_every_s=3_600.0)
        await client.aclose()
        await backend.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.released == 1
        rig.reactor.deadlines.expire(trio.current_time() + RECHECK_S_MAX + 1)
        assert rig.reactor.deadlines.next_at == float("inf")


async def test_a_tunnel_renews_its_lease_no_more_often_than_it_says(relay):
    async with running(relay) as rig:
        rig.tunnel(idle_s=3_600.0, renew_every_s=300.0)
        now = trio.current_time()
        for later_s in range(0, 1_000, 10):
            rig.reactor.deadlines.expire(now + later_s)
        assert rig.renewals == 3


async def test_a_thousand_tunnels_leave_nothing_behind(relay):
    async with running(relay) as rig:
        for _ in range(10):
            pairs = [rig.tunnel() for _ in range(100)]
            for client, backend in pairs:
                await client.send_all(b"x")
                await client.aclose()
                assert await read_all(backend) == b"x"
                await backend.aclose()
        await eventually(lambda: rig.released == 1_000)
        assert rig.released == 1_000
        assert rig.watched == 0
