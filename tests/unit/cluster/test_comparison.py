"""What a comparison does with answers and questions that no honest member sends."""

from meshlb.cluster.comparison import COMPARE_STALL_S, RANGES_OPEN_MAX, SERVED_MAX
from meshlb.cluster.repair import DIGEST_EVERY_S
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.limits import BUCKETS
from meshlb.wire.messages import (
    BucketHashes,
    BucketKeys,
    BucketNumber,
    BucketPins,
    BucketsDiffering,
    Delta,
    Hash64,
)
from tests.fakes.members import World

A, B = NodeName("a"), NodeName("b")
LOWEST, HIGHEST = SessionKey(bytes(16)), SessionKey(b"\xff" * 16)


def counted() -> World:
    """Two members that know the sums of their tables, and have more to tell than one turn reads."""
    world = World("a", "b")
    for number in range(50):
        world["b"].plant(number)
    world.run(3.0)
    return world


def test_a_range_beyond_one_bucket_is_not_read_and_ends_the_comparison() -> None:
    world = counted()
    world["b"].turns.hear(A, [BucketHashes(9, (Hash64(1),) * BUCKETS)])
    world.settle()
    world["b"].turns.hear(A, [BucketKeys(9, LOWEST, HIGHEST, (), last=False)])
    world["b"].turns.hear(A, [BucketKeys(9, LOWEST, LOWEST, (), last=False)])
    assert not world.sent(BucketPins)


def test_a_peer_names_no_more_buckets_than_there_are() -> None:
    world = counted()
    world.loses = lambda message: isinstance(message, BucketsDiffering | BucketKeys)
    world["b"].drop_one()
    world.run(until=lambda: bool(world.sent(BucketHashes)))
    asked = world.sent(BucketHashes)[0]
    asker = next(m for m in world.members.values() if m.turns.repair._asker._asked is not None)
    peer = B if asker.name == A else A
    every = tuple(BucketNumber(number) for number in range(BUCKETS))
    told = BucketsDiffering(asked.request, every, (Hash64(1),) * BUCKETS, last=False)
    for _ in range(3):
        asker.turns.hear(peer, [told])
    under_way = asker.turns.repair._asker._asked
    assert under_way is not None
    assert len(under_way.todo) <= BUCKETS


def test_who_waits_for_an_answer_is_not_woken_for_it() -> None:
    world = counted()
    world.loses = lambda message: isinstance(message, BucketHashes)
    world["b"].drop_one()
    world.run(until=lambda: bool(world.sent(BucketHashes)))
    turns = 0
    until = world.now + COMPARE_STALL_S / 2
    while world.now < until:
        world.now = min(until, *(m.turns.next_deadline() for m in world.members.values()))
        world.settle()
        turns += 1
    assert turns <= 4 * COMPARE_STALL_S / DIGEST_EVERY_S


def test_a_member_serves_a_bounded_number_of_comparisons_and_the_others_come_back() -> None:
    world = counted()
    peers = [NodeName(f"p{number}") for number in range(SERVED_MAX + 1)]
    for peer in peers:
        world["b"].turns.opened(peer, BootId(9))
        world["b"].turns.hear(peer, [BucketHashes(1, (Hash64(1),) * BUCKETS)])
    server = world["b"].turns.repair._server
    assert len(server._served) == SERVED_MAX
    assert peers[-1] not in server._served
    world["b"].turns.closed(peers[0])
    world["b"].turns.hear(peers[-1], [BucketHashes(2, (Hash64(1),) * BUCKETS)])
    assert peers[-1] in server._served


def test_ranges_without_an_answer_are_bounded() -> None:
    world = World("a", "b")
    for number in range(20 * RANGES_OPEN_MAX):
        world["b"].plant(number)
    world.run(3.0)
    world.loses = lambda message: isinstance(message, Delta | BucketPins)
    for number in range(20 * RANGES_OPEN_MAX):
        world["b"].plant(number, "s2", ttl_s=2_000.0)
        world["b"].drop_one()
    world.run(until=lambda: bool(world.sent(BucketKeys)))
    world.run(1.0)
    assert len(world.sent(BucketKeys)) == RANGES_OPEN_MAX
