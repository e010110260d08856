"""Broadcasts against members that stay silent, go away, come back or get it twice."""

from collections.abc import Callable

import pytest
import trio
import trio.testing

from meshlb.cluster.broadcasts import HEARD_MAX, UNDER_WAY_MAX, Broadcasts, Receipt
from meshlb.model import BootId, NodeName
from meshlb.wire.broadcast_words import Broadcast, BroadcastAck, Payload, Topic
from meshlb.wire.limits import PAYLOAD_BYTES_MAX
from meshlb.wire.messages import Message

ME, B, C = NodeName("a"), NodeName("b"), NodeName("c")
BOOT = BootId(1)
NEWS, OTHER = Topic("news"), Topic("other")
TIMEOUT_S = 5.0


class Rig:
    def __init__(self) -> None:
        self.sent: list[tuple[NodeName, Message]] = []
        self.handled: list[tuple[NodeName, Payload]] = []
        self.deaf: set[NodeName] = set()
        self.broadcasts = Broadcasts(
            lambda peer, message: self.sent.append((peer, message)), self.deaf.__contains__
        )
        self.broadcasts.handle(NEWS, lambda sender, payload: self.handled.append((sender, payload)))

    async def tell(
        self,
        *members: NodeName,
        then: Callable[[], None] = lambda: None,
        timeout_s: float = TIMEOUT_S,
    ) -> Receipt:
        """Tell `members`; `then` happens while that is under way."""
        receipts: list[Receipt] = []

        async def tell() -> None:
            receipts.append(
                await self.broadcasts.tell(
                    NEWS, Payload(b"x"), lambda: members, timeout_s=timeout_s
                )
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await trio.testing.wait_all_tasks_blocked()
            then()
        return receipts[0]

    def ack(self, member: NodeName, number: int = 1) -> None:
        self.broadcasts.hear(member, BOOT, BroadcastAck(number))


async def test_it_is_done_once_every_member_has_acknowledged(autojump_clock: object) -> None:
    rig = Rig()

    def acknowledge() -> None:
        rig.ack(B)
        rig.ack(C)

    receipt = await rig.tell(B, C, then=acknowledge)
    assert receipt == Receipt((B, C), (), ())
    assert receipt.is_complete
    assert rig.sent == [
        (B, Broadcast(1, NEWS, Payload(b"x"))),
        (C, Broadcast(1, NEWS, Payload(b"x"))),
    ]


async def test_members_that_stay_silent_are_named_in_the_end(autojump_clock: object) -> None:
    rig = Rig()
    receipt = await rig.tell(B, C, then=lambda: rig.ack(C))
    assert receipt == Receipt((C,), (B,), ())
    assert not receipt.is_complete


async def test_nobody_waits_for_a_member_that_is_gone(autojump_clock: object) -> None:
    rig = Rig()

    def lose() -> None:
        rig.ack(C)
        rig.broadcasts.gone(B)
        rig.broadcasts.gone(NodeName("stranger"))

    before = trio.current_time()
    receipt = await rig.tell(B, C, then=lose)
    assert receipt == Receipt((C,), (), (B,))
    assert receipt.is_complete
    assert trio.current_time() == before


async def test_a_new_stream_gets_again_what_is_not_acknowledged(autojump_clock: object) -> None:
    rig = Rig()

    def reconnect() -> None:
        rig.ack(C)
        rig.sent.clear()
        rig.broadcasts.linked(B)
        rig.broadcasts.linked(C)
        assert rig.sent == [(B, Broadcast(1, NEWS, Payload(b"x")))]
        rig.ack(B)

    assert (await rig.tell(B, C, then=reconnect)).acknowledged == (B, C)
    rig.sent.clear()
    rig.broadcasts.linked(B)
    assert rig.sent == [], "it is done"


async def test_alone_or_without_waiting_it_returns_at_once(autojump_clock: object) -> None:
    rig = Rig()
    before = trio.current_time()
    assert await rig.tell() == Receipt((), (), ())
    assert (await rig.tell(B, timeout_s=0.0)).waiting_for == (B,)
    assert trio.current_time() == before


async def test_acknowledgements_of_strangers_and_of_others_numbers_count_for_nothing(
    autojump_clock: object,
) -> None:
    rig = Rig()

    def confuse() -> None:
        rig.ack(C)
        rig.ack(B, number=2)

    assert await rig.tell(B, then=confuse) == Receipt((), (B,), ())


async def test_only_so_many_are_under_way_and_the_others_wait_their_turn(
    autojump_clock: object,
) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        for _ in range(UNDER_WAY_MAX + 2):
            nursery.start_soon(rig.tell, B)
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.sent) == UNDER_WAY_MAX
        rig.ack(B, number=1)
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.sent) == UNDER_WAY_MAX + 1
    assert len(rig.sent) == UNDER_WAY_MAX + 2


async def test_a_payload_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="16384 are allowed"):
        await Rig().broadcasts.tell(
            NEWS, Payload(bytes(PAYLOAD_BYTES_MAX + 1)), lambda: (), timeout_s=1.0
        )


def test_what_comes_again_is_acknowledged_again_and_handled_once() -> None:
    rig = Rig()
    for boot_id in (BOOT, BOOT, BootId(2)):
        rig.broadcasts.hear(B, boot_id, Broadcast(1, NEWS, Payload(b"x")))
    assert rig.handled == [(B, b"x"), (B, b"x")]
    assert rig.sent == [(B, BroadcastAck(1))] * 3


def test_a_topic_that_nobody_handles_is_not_acknowledged() -> None:
    rig = Rig()
    rig.broadcasts.hear(B, BOOT, Broadcast(1, OTHER, Payload(b"x")))
    assert rig.sent == []


def test_only_so_many_are_remembered() -> None:
    rig = Rig()
    for number in range(1, HEARD_MAX + 2):
        rig.broadcasts.hear(B, BOOT, Broadcast(number, NEWS, Payload(b"")))
    assert len(rig.broadcasts._heard) == HEARD_MAX


async def test_a_member_of_a_version_without_broadcasts_is_named_and_not_waited_for() -> None:
    rig = Rig()
    rig.deaf.add(B)
    receipt = await rig.tell(B, C, then=lambda: rig.ack(C))
    assert receipt == Receipt((C,), (B,), ())
    assert [peer for peer, _ in rig.sent] == [C]


async def test_nobody_is_waited_for_where_none_knows_broadcasts() -> None:
    rig = Rig()
    rig.deaf |= {B, C}
    assert await rig.tell(B, C) == Receipt((), (B, C), ())


async def test_a_member_that_turns_out_to_know_no_broadcasts_holds_up_nobody() -> None:
    rig = Rig()

    def link_up() -> None:
        rig.deaf.add(B)
        rig.broadcasts.linked(B)

    assert await rig.tell(B, then=link_up) == Receipt((), (B,), ())
