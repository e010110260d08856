"""A link that the reactor moves, over a real pair of sockets; time by a clock that jumps."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from meshlb.cluster.link import OUTBOX_BYTES_LOW, Link
from meshlb.cluster.socket_link import SocketLink
from meshlb.model import Address, BootId, KeyId, NodeName
from meshlb.net.reactor import Reactor
from meshlb.wire.codec import decode, encode, encode_message
from meshlb.wire.handshake import Established, Identity
from meshlb.wire.messages import Ack, Message
from meshlb.wire.seal import FrameOpener, FrameSealer
from meshlb.wire.versions import ALL_FEATURES, VERSION_MAX, Dialect

PEER = Identity(NodeName("peer"), BootId(2), Address("127.0.0.1", 1))
OUT, IN = b"o" * 32, b"i" * 32
READ_BYTES = 65_536
CHUNK = b"x" * 30_000


class Rig:
    """A link that runs, and the other end of its connection in the hands of the test."""

    def __init__(self, reactor: Reactor, *, rest: bytes = b"") -> None:
        ours, theirs = socket.socketpair()
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        self.sealer, self.opener = FrameSealer(IN), FrameOpener(OUT)
        self.heard: list[Message] = []
        self.frames: list[tuple[Message, ...]] = []
        self.lows = 0
        dialect = Dialect(VERSION_MAX, ALL_FEATURES)
        sides = FrameSealer(OUT), FrameOpener(IN)
        self.link = SocketLink(
            _stream(ours),
            Established(PEER, dialect, KeyId(b"key1"), *sides, rest),
            reactor=reactor,
            dialled=None,
            now=trio.current_time(),
            on_low=self._low,
        )

    def _low(self) -> None:
        self.lows += 1

    async def run(self) -> None:
        await self.link.run(self.deliver)

    def deliver(self, link: Link, messages: tuple[Message, ...]) -> None:
        assert link is self.link
        self.heard += messages
        if Ack(0) in messages:
            raise RuntimeError("a bug")

    async def say(self, *messages: Message) -> None:
        await self.stream.send_all(self.sealer.seal(encode(messages)))

    async def frame(self) -> tuple[Message, ...]:
        while not self.frames:
            await self.read()
        return self.frames.pop(0)

    async def read(self) -> int:
        chunk = bytes(await self.stream.receive_some(READ_BYTES))
        self.frames += [decode(plain) for plain in self.opener.receive(chunk)]
        return len(chunk)

    def fill(self) -> None:
        """Until the kernel takes no more."""
        while not self.link.outbox_bytes:
            self.link.send(CHUNK)
            self.link.flush()


def _stream(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


@asynccontextmanager
async def linked(rest: bytes = b"") -> AsyncIterator[Rig]:
    reactor = Reactor()
    rig = Rig(reactor, rest=rest)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        nursery.start_soon(rig.run)
        await trio.testing.wait_all_tasks_blocked()
        yield rig
        nursery.cancel_scope.cancel()
    assert len(reactor) == 0
    reactor.close()
    await rig.stream.aclose()


async def test_what_is_queued_leaves_with_the_flush_in_one_frame() -> None:
    async with linked() as rig:
        for seq in range(1, 6):
            rig.link.send(encode_message(Ack(seq)))
        rig.link.flush()
        assert await rig.frame() == tuple(Ack(seq) for seq in range(1, 6))


async def test_what_comes_is_delivered_frame_by_frame_in_whatever_pieces() -> None:
    async with linked(rest=FrameSealer(IN).seal(encode([Ack(1)]))) as rig:
        assert rig.heard == [Ack(1)]
        rig.sealer.seal(b"")  # the counter of what came with the handshake
        for byte in rig.sealer.seal(encode([Ack(2)])) + rig.sealer.seal(encode([Ack(3)])):
            await rig.stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert rig.heard == [Ack(1), Ack(2), Ack(3)]


async def test_what_the_kernel_does_not_take_goes_out_when_there_is_room() -> None:
    async with linked() as rig:
        rig.fill()
        last = encode_message(Ack(9))
        rig.link.send(last)
        rig.link.flush()
        plains: list[bytes] = []
        with trio.fail_after(30):
            while not plains or not plains[-1].endswith(last):
                plains += rig.opener.receive(bytes(await rig.stream.receive_some(READ_BYTES)))
        assert all(CHUNK in plain for plain in plains)
        assert rig.link.outbox_bytes == 0


async def test_an_outbox_that_has_become_low_says_so() -> None:
    async with linked() as rig:
        rig.fill()
        while rig.link.is_low:
            rig.link.send(CHUNK)
        assert rig.lows == 0
        with trio.fail_after(30):
            while rig.link.outbox_bytes >= OUTBOX_BYTES_LOW:
                await rig.stream.receive_some(READ_BYTES)
        await trio.testing.wait_all_tasks_blocked()
        assert rig.lows > 0


async def test_a_link_with_nothing_to_say_keeps_itself_alive(autojump_clock: object) -> None:
    async with linked() as rig:
        for _ in range(20):
            assert await rig.frame() == ()
            await rig.say()
        assert rig.link.is_open


async def test_a_silent_peer_is_cut_off(autojump_clock: object) -> None:
    async with linked() as rig:
        await trio.sleep(60.0)
        assert rig.link.close_reason == "silent"


async def test_a_peer_that_trickles_bytes_of_a_frame_is_cut_off(autojump_clock: object) -> None:
    async with linked() as rig:
        for byte in rig.sealer.seal(b"x" * 1_000):
            await trio.sleep(1.0)
            if not rig.link.is_open:
                break
            await rig.stream.send_all(bytes([byte]))
        assert rig.link.close_reason == "silent"


async def test_a_peer_that_reads_nothing_is_cut_off(autojump_clock: object) -> None:
    async with linked() as rig:
        rig.fill()
        while rig.link.is_open:
            await rig.say(Ack(1))
            await trio.sleep(1.0)
        assert rig.link.close_reason == "stalled"


async def test_a_peer_that_reads_now_and_then_is_not_cut_off(autojump_clock: object) -> None:
    async with linked() as rig:
        for _ in range(20):
            rig.fill()
            await rig.say(Ack(1))
            await trio.sleep(5.0)
            while rig.link.outbox_bytes:
                await rig.stream.receive_some(READ_BYTES)
                await trio.testing.wait_all_tasks_blocked()
        assert rig.link.is_open


async def test_a_peer_that_hangs_up_ends_the_link() -> None:
    async with linked() as rig:
        await rig.stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.link.close_reason == "hung-up"


async def test_a_connection_that_breaks_ends_the_link_whether_it_reads_or_writes() -> None:
    async with linked() as rig:
        rig.fill()  # and what nobody has read makes the close a reset
        await rig.stream.aclose()
        rig.link.send(encode_message(Ack(1)))
        rig.link.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.link.close_reason in ("broken", "hung-up")


async def test_a_frame_that_is_not_authentic_ends_the_link() -> None:
    async with linked() as rig:
        await rig.say(Ack(1))
        await rig.stream.send_all(FrameSealer(b"?" * 32).seal(encode([Ack(2)])))
        await trio.testing.wait_all_tasks_blocked()
        assert rig.link.close_reason == "malformed"
        assert rig.heard == [Ack(1)]


async def test_a_bug_in_what_a_frame_leads_to_ends_its_link_and_no_other() -> None:
    async with linked() as rig:
        await rig.say(Ack(0))
        await trio.testing.wait_all_tasks_blocked()
        assert rig.link.close_reason == "broken"


@pytest.mark.parametrize("is_early", [True, False])
async def test_a_closed_link_drops_what_it_is_given_and_hears_nothing(is_early: bool) -> None:
    reactor = Reactor()
    rig = Rig(reactor)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        if is_early:
            rig.link.close("gone")
        nursery.start_soon(rig.run)
        await trio.testing.wait_all_tasks_blocked()
        if not is_early:
            os.write(rig.stream.socket.fileno(), rig.sealer.seal(encode([Ack(1)])))
            rig.link.close("gone")
        rig.link.send(encode_message(Ack(2)))
        rig.link.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert (rig.link.close_reason, rig.heard) == ("gone", [])
        nursery.cancel_scope.cancel()
    reactor.close()
    await rig.stream.aclose()
