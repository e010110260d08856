"""The handshake over streams in memory."""

import pytest
import trio
import trio.testing

from meshlb.cluster.greeting import Greeting, answer, greet
from meshlb.errors import WireError
from meshlb.model import Address, BootId, NodeName
from meshlb.wire.handshake import (
    Established,
    Identity,
    Initiator,
    RefusedByPeer,
    RefusedPeer,
    Responder,
)
from meshlb.wire.refusal import Refusal
from meshlb.wire.seal import Keyring, cluster_label

A = Identity(NodeName("a"), BootId(1), Address("127.0.0.1", 1))
B = Identity(NodeName("b"), BootId(2), Address("127.0.0.1", 2))
SHOP = cluster_label("shop")


def initiator(secret: bytes = b"s" * 32) -> Initiator:
    return Initiator(A, keyring=Keyring((secret,)), label=SHOP, ephemeral=b"a" * 32)


def responder() -> Responder:
    return Responder(B, keyring=Keyring((b"s" * 32,)), label=SHOP, ephemeral=b"b" * 32)


async def shake(
    dialler: Initiator, *, at_a: Refusal | None = None, at_b: Refusal | None = None
) -> tuple[Greeting, Greeting]:
    ends = trio.testing.memory_stream_pair()
    greetings: dict[str, Greeting] = {}

    async def dial() -> None:
        greetings["a"] = await greet(ends[0], dialler, lambda peer: at_a)

    async def be_dialled() -> None:
        greetings["b"] = await answer(ends[1], responder(), lambda peer: at_b)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(be_dialled)
    return greetings["a"], greetings["b"]


async def test_members_of_one_cluster_are_established() -> None:
    at_a, at_b = await shake(initiator())
    assert isinstance(at_a, Established)
    assert isinstance(at_b, Established)
    assert (at_a.peer, at_b.peer) == (B, A)


async def test_the_dialled_side_may_refuse_who_is_proven() -> None:
    at_a, at_b = await shake(initiator(), at_b=Refusal.NAME_TAKEN)
    assert at_a == RefusedByPeer(Refusal.NAME_TAKEN)
    assert isinstance(at_b, RefusedPeer)
    assert at_b.claimed_name == "a"


async def test_the_dialling_side_may_refuse_who_is_proven() -> None:
    at_a, at_b = await shake(initiator(), at_a=Refusal.LINKED)
    assert isinstance(at_a, RefusedPeer)
    assert at_b == RefusedByPeer(Refusal.LINKED)


async def test_a_stranger_is_refused_before_anybody_judges_it() -> None:
    at_a, at_b = await shake(initiator(b"x" * 32), at_b=Refusal.NAME_TAKEN)
    assert at_a == RefusedByPeer(Refusal.OTHER_SECRET)
    assert isinstance(at_b, RefusedPeer)


async def test_a_peer_that_hangs_up_or_speaks_otherwise_is_a_wire_error() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_eof()
    with pytest.raises(WireError, match="hung up"):
        await answer(ours, responder(), lambda peer: None)
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(WireError):
        await greet(ours, initiator(), lambda peer: None)
