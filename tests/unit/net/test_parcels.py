"""Facts and descriptors from one process to another, whole or not at all."""

import os
import socket

import pytest
import trio

from meshlb.errors import HandOverError
from meshlb.net import parcels
from meshlb.net.parcels import DESCRIPTORS_MAX, Parcel, ParcelService
from tests.descriptors import open_descriptors


def both() -> tuple[ParcelService, ParcelService]:
    here, there = ParcelService.pair()
    return here, ParcelService(there)


async def test_facts_and_sockets_arrive_together_and_in_order() -> None:
    here, there = both()
    pairs = [socket.socketpair() for _ in range(3)]
    await here.send(Parcel("hello", {"version": 1}))
    await here.send(Parcel("two", [b"x" * 10], [pairs[0][0], pairs[1][0]]))
    await here.send(Parcel("one", None, [pairs[2][0]]))
    assert (await there.expect("hello")).facts == {"version": 1}
    two, one = await there.receive(), await there.receive()
    assert (two.facts, one.facts) == ([b"x" * 10], None)
    for received, (_, other) in zip([*two.sockets, *one.sockets], pairs, strict=True):
        other.send(b"!")
        assert received.recv(1) == b"!"
        assert not os.get_inheritable(received.fileno())
        assert not received.getblocking()
        received.close()
    for one_end, other_end in pairs:
        one_end.close()
        other_end.close()
    here.close()
    there.close()


async def test_as_many_descriptors_as_the_kernel_takes_and_bytes_beyond_its_buffers() -> None:
    here, there = both()
    one, other = socket.socketpair()
    content = os.urandom(5_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.send, Parcel("much", content, [one] * DESCRIPTORS_MAX))
        received = await there.receive()
    assert received.facts == content
    assert len(received.sockets) == DESCRIPTORS_MAX
    received.close()
    for end in (one, other):
        end.close()
    here.close()
    there.close()


async def test_an_end_that_hangs_up_is_an_error_and_leaves_no_descriptor_open() -> None:
    before = open_descriptors()
    here, there = both()
    one, other = socket.socketpair()
    header = parcels._HEADER.pack(100, 1)
    await here._sock.sendmsg(
        [header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, one.fileno().to_bytes(4, "little"))]
    )
    here.close()
    with pytest.raises(HandOverError, match="hung up"):
        await there.receive()
    there.close()
    with pytest.raises(HandOverError, match="gone"):
        await here.send(Parcel("late"))
    for end in (one, other):
        end.close()
    assert open_descriptors() == before


@pytest.mark.parametrize(
    "said",
    [
        parcels._HEADER.pack(parcels.PARCEL_BYTES_MAX + 1, 0),
        parcels._HEADER.pack(1, 1) + b"\x01",
        parcels._HEADER.pack(1, 0) + b"\xc1",
        parcels._HEADER.pack(1, 0) + b"\x01",
    ],
)
async def test_what_is_no_parcel_is_refused(said: bytes) -> None:
    here, there = both()
    await here._sock.send(said)
    with pytest.raises(HandOverError):
        await there.receive()
    here.close()
    there.close()


async def test_what_was_not_expected_is_refused_and_its_sockets_are_closed() -> None:
    before = open_descriptors()
    here, there = both()
    one, other = socket.socketpair()
    await here.send(Parcel("that", None, [one]))
    with pytest.raises(HandOverError, match="said that, and not this"):
        await there.expect("this")
    for end in (one, other):
        end.close()
    here.close()
    there.close()
    assert open_descriptors() == before
