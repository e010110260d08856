"""What goes for every link: its outbox, its frames, and peers that lie. Streams in memory."""

import pytest
import trio
import trio.testing

from meshlb.cluster.link import OUTBOX_BYTES_LOW, OUTBOX_BYTES_MAX, Link
from meshlb.cluster.stream_link import StreamLink
from meshlb.model import Address, BootId, KeyId, NodeName
from meshlb.wire.broadcast_words import BroadcastAck
from meshlb.wire.codec import decode, encode, encode_message
from meshlb.wire.handshake import Established, Identity
from meshlb.wire.limits import FRAME_PLAIN_BYTES_MAX
from meshlb.wire.messages import Ack, DeltaAck, Message, Nack, Ping
from meshlb.wire.seal import FrameOpener, FrameSealer
from meshlb.wire.versions import ALL_FEATURES, VERSION_MAX, Dialect

PEER = Identity(NodeName("peer"), BootId(2), Address("127.0.0.1", 1))
OUT, IN = b"o" * 32, b"i" * 32


ALL = Dialect(VERSION_MAX, ALL_FEATURES)


class Rig:
    """A link, and the other end of its stream in the hands of the test."""

    def __init__(self, *, rest: bytes = b"", dialect: Dialect = ALL) -> None:
        ours, self.stream = trio.testing.memory_stream_pair()
        self.sealer, self.opener = FrameSealer(IN), FrameOpener(OUT)
        self.heard: list[Message] = []
        self.frames: list[tuple[Message, ...]] = []
        self.lows = 0
        established = Established(
            PEER, dialect, KeyId(b"key1"), FrameSealer(OUT), FrameOpener(IN), rest
        )
        self.unknown: list[int] = []
        self.link = StreamLink(
            ours,
            established,
            dialled=None,
            now=trio.current_time(),
            on_low=self._low,
            on_unknown=self.unknown.append,
        )

    def _low(self) -> None:
        self.lows += 1

    def deliver(self, link: Link, messages: tuple[Message, ...]) -> None:
        assert link is self.link
        self.heard += messages

    async def say(self, *messages: Message) -> None:
        await self.stream.send_all(self.sealer.seal(encode(messages)))

    async def frame(self) -> tuple[Message, ...]:
        while not self.frames:
            chunk = bytes(await self.stream.receive_some())
            self.frames += [decode(plain) for plain in self.opener.receive(chunk)]
        return self.frames.pop(0)


async def test_what_is_queued_leaves_in_one_frame_in_order(autojump_clock: object) -> None:
    rig = Rig()
    for seq in range(5):
        rig.link.send(encode_message(Ack(seq)))
    rig.link.flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.run, rig.deliver)
        assert await rig.frame() == tuple(Ack(seq) for seq in range(5))
        nursery.cancel_scope.cancel()


async def test_an_outbox_that_is_full_ends_the_link_and_frees_its_memory() -> None:
    rig = Rig()
    chunk = b"x" * (FRAME_PLAIN_BYTES_MAX // 2)
    for _ in range(OUTBOX_BYTES_MAX // len(chunk)):
        rig.link.send(chunk)
        assert rig.link.is_open
    assert not rig.link.is_low
    rig.link.send(chunk)
    assert rig.link.close_reason == "outbox-full"
    assert rig.link.outbox_bytes == 0
    assert await rig.link.run(rig.deliver) == "outbox-full"


async def test_several_messages_fill_the_outbox_as_one_does() -> None:
    rig = Rig()
    half = bytes(OUTBOX_BYTES_MAX // 2)
    rig.link.send_all([half, half])
    assert rig.link.outbox_bytes == OUTBOX_BYTES_MAX
    rig.link.send_all([])
    assert rig.link.is_open
    rig.link.send_all([b"x"])
    assert rig.link.close_reason == "outbox-full"
    rig.link.send_all([b"x"])
    assert rig.link.outbox_bytes == 0


async def test_a_drained_outbox_says_that_it_takes_more(autojump_clock: object) -> None:
    rig = Rig()
    message = encode_message(DeltaAck(BootId(1), 1))
    while rig.link.is_low:
        rig.link.send(message)
    rig.link.flush()
    assert rig.link.outbox_bytes >= OUTBOX_BYTES_LOW
    queued = rig.link.outbox_bytes // len(message)
    received = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.run, rig.deliver)
        while received < queued:
            received += len(await rig.frame())
        assert rig.link.is_low
        assert rig.lows > 0
        nursery.cancel_scope.cancel()
    assert received == queued


@pytest.mark.parametrize(
    "plain",
    [b"", b"\xc1", encode([Ack(1)]) + b"\x00", encode([Nack(1)])],
    ids=["nothing", "no MessagePack", "a trailing byte", "a message of datagrams"],
)
async def test_a_frame_that_is_no_batch_ends_the_link(plain: bytes) -> None:
    rig = Rig()
    await rig.stream.send_all(rig.sealer.seal(plain))
    assert await rig.link.run(rig.deliver) == "malformed"
    assert rig.heard == []


async def test_a_frame_that_is_not_authentic_ends_the_link() -> None:
    rig = Rig()
    await rig.say(Ping(1, NodeName("me")))
    await rig.stream.send_all(FrameSealer(b"?" * 32).seal(encode([Ack(1)])))
    assert await rig.link.run(rig.deliver) == "malformed"
    assert rig.heard == [Ping(1, NodeName("me"))]


async def test_good_frames_are_heard_at_once_also_in_front_of_a_bad_one() -> None:
    rig = Rig()
    frames = [rig.sealer.seal(encode([Ack(number)])) for number in range(3)]
    await rig.stream.send_all(b"".join(frames) + FrameSealer(b"?" * 32).seal(encode([Ack(9)])))
    calls: list[tuple[Message, ...]] = []
    assert await rig.link.run(lambda link, messages: calls.append(messages)) == "malformed"
    assert calls == [(Ack(0), Ack(1), Ack(2))]


async def test_what_came_with_the_handshake_is_read_first() -> None:
    rig = Rig(rest=FrameSealer(IN).seal(encode([Ack(7)])))
    await rig.stream.send_eof()
    assert await rig.link.run(rig.deliver) == "hung-up"
    assert rig.heard == [Ack(7)]


async def test_a_closed_link_drops_what_it_is_given() -> None:
    rig = Rig()
    rig.link.close("gone")
    rig.link.close("broken")
    rig.link.send(b"late")
    assert rig.link.outbox_bytes == 0
    assert await rig.link.run(rig.deliver) == "gone"


async def test_a_peer_is_told_nothing_that_it_would_not_understand(autojump_clock: object) -> None:
    rig = Rig(dialect=Dialect(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.run, rig.deliver)
        rig.link.tell(BroadcastAck(1), Ping(1, NodeName("b")), BroadcastAck(2))
        rig.link.flush()
        assert await rig.frame() == (Ping(1, NodeName("b")),)
        nursery.cancel_scope.cancel()


async def test_what_only_a_later_version_knows_is_passed_over_and_counted(
    autojump_clock: object,
) -> None:
    rig = Rig()
    later = bytes.fromhex("92" + "93ccfa01a178" + "920302")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.run, rig.deliver)
        await rig.stream.send_all(rig.sealer.seal(later))
        await trio.testing.wait_all_tasks_blocked()
        assert rig.link.is_open
        nursery.cancel_scope.cancel()
    assert rig.heard == [Ack(2)]
    assert rig.unknown == [250]
