"""A link of two tasks against peers that stall or fall silent; in memory, time by autojump."""

import contextlib

import trio
import trio.testing

from meshlb.cluster.stream_link import StreamLink
from meshlb.model import KeyId
from meshlb.wire.codec import encode
from meshlb.wire.handshake import Established
from meshlb.wire.messages import Ack
from meshlb.wire.seal import FrameOpener, FrameSealer
from tests.unit.cluster.test_link import ALL, IN, OUT, PEER, Rig


async def test_a_silent_peer_is_cut_off(autojump_clock: object) -> None:
    rig = Rig()
    assert await rig.link.run(rig.deliver) == "silent"
    assert not rig.link.is_open


async def test_a_peer_that_trickles_bytes_of_a_frame_is_cut_off(autojump_clock: object) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:

        async def trickle() -> None:
            for byte in rig.sealer.seal(b"x" * 1_000):
                await trio.sleep(1.0)
                await rig.stream.send_all(bytes([byte]))

        nursery.start_soon(trickle)
        assert await rig.link.run(rig.deliver) == "silent"
        nursery.cancel_scope.cancel()


async def test_a_peer_that_reads_nothing_is_cut_off(autojump_clock: object) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    rig = Rig()
    established = Established(PEER, ALL, KeyId(b"key1"), FrameSealer(OUT), FrameOpener(IN), b"")
    link = StreamLink(ours, established, dialled=None, now=0.0, on_low=lambda: None)
    async with trio.open_nursery() as nursery:

        async def talk() -> None:
            with contextlib.suppress(trio.BrokenResourceError):  # the end of the link
                for _ in range(100):
                    await theirs.send_all(rig.sealer.seal(encode([Ack(1)])))
                    await trio.sleep(1.0)

        nursery.start_soon(talk)
        assert await link.run(lambda link, messages: None) == "stalled"
        nursery.cancel_scope.cancel()


async def test_a_link_with_nothing_to_say_keeps_itself_alive(autojump_clock: object) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.run, rig.deliver)
        for _ in range(20):
            assert await rig.frame() == ()
            await rig.say()
        assert rig.link.is_open
        assert rig.heard == []
        nursery.cancel_scope.cancel()
