"""What repair finds, and what it takes to mend it."""

from dataclasses import replace

from meshlb.cluster.comparison import COMPARE_STALL_S, SCAN_PINS
from meshlb.cluster.heals import HEAL_S, Move
from meshlb.cluster.repair import (
    COMPARE_EVERY_S,
    DIGEST_EVERY_S,
    DIGEST_PEERS_MAX,
    HASTE_EVERY_S,
    HASTE_S_MAX,
)
from meshlb.core.sticky.events import ViewChanged
from meshlb.core.sticky.merge import tombstone
from meshlb.core.sticky.pin import MS_PER_S
from meshlb.core.sticky.vector import LAG_S
from meshlb.model import BackendName, NodeName, PoolName
from meshlb.wire.limits import BUCKETS
from meshlb.wire.messages import (
    BucketHashes,
    BucketKeys,
    BucketPins,
    BucketsDiffering,
    Delta,
    Digest,
    PullRequest,
    Rank,
)
from meshlb.wire.runs import Hash64
from tests.fakes.members import World
from tests.fakes.pins import NOW, a_pin
from tests.runtime.cluster.kit import key_of


def test_tables_that_are_alike_prove_it_each_second_without_a_comparison() -> None:
    world = World("a", "b")
    for number in range(20):
        world["a"].plant(number)
    world.run(3.0)
    for one, other in (("a", "b"), ("b", "a")):
        sync = world[one].sync(other)
        assert sync is not None
        assert sync.differing == 0
        assert sync.as_of > world.now - 2.0
    world.run(2 * COMPARE_EVERY_S)
    assert not world.sent(BucketHashes)


def test_digests_go_to_a_few_peers_each_second_and_to_all_in_turn() -> None:
    names = [f"m{number}" for number in range(2 * DIGEST_PEERS_MAX + 1)]
    world = World(*names)
    world.run(1.0)
    for _ in range(2):
        world.carried.clear()
        world.run(1.0)
        assert len(world.sent(Digest)) == len(names) * DIGEST_PEERS_MAX
    world.run(2.0)
    assert all(
        len(member.turns.repair.sync()) == len(names) - 1 for member in world.members.values()
    )


def test_a_lost_delta_is_noticed_by_the_next_digest_and_mended() -> None:
    world = World("a", "b")
    world.run(2.0)
    world.loses = lambda message: isinstance(message, Delta)
    key = world["a"].plant(1)
    world.settle()
    assert key not in world["b"].store
    world.loses = lambda message: False
    began = world.now
    world.run(until=world.are_alike)
    assert world.now - began < 2.0
    assert world["b"].counters.keys_repaired == 1
    world.run(3.0)
    sync = world["b"].sync("a")
    assert sync is not None
    assert sync.differing == 0
    assert world["b"].counters.comparisons == 1, "once mended, it is no gap any more"


def test_the_next_delta_after_a_comparison_opens_no_gap() -> None:
    world = World("a", "b")
    world.run(2.0)
    world.loses = lambda message: isinstance(message, Delta)
    world["a"].plant(1)
    world.settle()
    world.loses = lambda message: False
    world.run(until=world.are_alike)
    world["a"].plant(2)
    world.run(until=world.are_alike)
    assert not world["b"].turns.replication.gaps


def test_what_differs_without_any_gap_is_found_by_the_buckets() -> None:
    world = World("a", "b", "c")
    for number in range(300):
        world["a"].plant(number)
    world.run(2.0)
    a, b = world["a"], world["b"]
    # A table that differs though every log was read: what a bug or a bad disk leaves behind.
    for number in range(10):
        pin = b.store[key_of(number)]
        b.turns.buckets.replace(key_of(number), pin, None)
        del b.store[key_of(number)]
    changed = b.store[key_of(50)]
    b.turns._digested.put(key_of(50), replace(changed, backend=BackendName("s9"), epoch=1))
    a.turns.buckets.replace(key_of(60), a.store.pop(key_of(60)), None)
    world.run(until=world.are_alike)
    assert a.store[key_of(50)].backend == "s9"
    assert len(world["c"].store) == 300
    world.run(COMPARE_EVERY_S)
    assert {
        sync.differing for m in world.members.values() for sync in m.turns.repair.sync().values()
    } == {0}


def test_both_sides_of_a_comparison_count_the_keys_alike() -> None:
    world = World("a", "b")
    world.run(1.5)
    world.loses = lambda message: isinstance(message, Delta | Digest)
    for number in range(700):
        world["a"].plant(number)
    for number in range(600, 900):
        world["b"].plant(number, "s2")
    world.settle()
    # One comparison alone: of two at a time, each may find the other's work done.
    world.loses = lambda message: (
        isinstance(message, Digest)
        or (isinstance(message, BucketHashes) and message is not world.sent(BucketHashes)[0])
    )
    world.run(until=world.are_alike)
    world.run(1.0)
    counts = [s.differing for s in (world["a"].sync("b"), world["b"].sync("a")) if s is not None]
    assert counts == [900, 900]


def test_dead_records_make_no_difference_and_are_not_brought_back() -> None:
    world = World("a", "b")
    key = world["a"].plant(1, ttl_s=5.0)
    gone = world["a"].plant(2, ttl_s=5.0)
    kept = world["a"].plant(3)
    world.run(8.0)
    b = world["b"]
    b.turns.buckets.replace(key, b.store.pop(key), None)  # one sweep was faster than the other
    world["a"].turns.buckets.replace(gone, world["a"].store.pop(gone), None)
    world.run(3 * COMPARE_EVERY_S)
    assert world.sent(BucketHashes)
    assert not any(answer.pins for answer in world.sent(BucketPins))
    assert set(b.store) == {gone, kept}
    sync = b.sync("a")
    assert sync is not None
    assert sync.differing == 0


def test_a_record_without_time_left_in_an_answer_is_ignored() -> None:
    world = World("a", "b")
    world.run(2.0)
    key = world["a"].plant(7)
    world.settle()
    (record,) = [r for m in world.sent(Delta) for r in m.pins if r.key == key]
    dead = replace(record, key=key_of(8), expires_in_ms=0)
    world["b"].turns.hear(NodeName("a"), [BucketPins(1, (dead,), (), last=True)])
    assert key_of(8) not in world["b"].store


def test_a_tombstone_in_its_grace_is_mended_like_a_pin() -> None:
    world = World("a", "b")
    key = world["a"].plant(1)
    world.run(2.0)
    world.loses = lambda message: isinstance(message, Delta)
    stone = tombstone(
        world["a"].store[key],
        stamp_ms=int(world.now * MS_PER_S),
        by=NodeName("a"),
        now=world.now,
    )
    world["a"].turns._digested.put(key, stone)
    world["a"].turns.stored(key, stone)
    world.settle()
    world.loses = lambda message: False
    world.run(until=world.are_alike)
    assert world["b"].store[key].is_tombstone


def test_what_a_dead_origin_told_only_one_peer_reaches_the_others() -> None:
    world = World("a", "b", "c")
    world.run(2.0)
    world.cut("a", "c")
    key = world["a"].plant(1)
    world.settle()
    world.cut("a", "b")
    assert (key in world["b"].store, key in world["c"].store) == (True, False)
    del world.members[NodeName("a")]
    began = world.now
    world.run(until=world.are_alike)
    assert world.now - began < LAG_S + 3 * DIGEST_EVERY_S
    compared = world["c"].counters.comparisons
    world.run(10.0)
    assert world["c"].counters.comparisons == compared, "what was compared is covered"


def test_a_comparison_waits_for_room_in_the_stream() -> None:
    world = World("a", "b")
    world.run(1.5)
    world.loses = lambda message: isinstance(message, Delta)
    for number in range(50):
        world["a"].plant(number)
    world.settle()
    world.loses = lambda message: False
    world["a"].has_room = world["b"].has_room = False
    world.run(4.0)
    assert world.sent(BucketHashes)
    assert not world.sent(BucketKeys)
    world["a"].has_room = world["b"].has_room = True
    world.run(until=world.are_alike)


def test_a_comparison_that_the_peer_does_not_answer_is_given_up_and_begun_again() -> None:
    world = World("a", "b")
    world.run(1.5)
    world.loses = lambda message: isinstance(message, Delta | BucketKeys)
    world["a"].plant(1)
    world.run(3 * COMPARE_STALL_S)
    assert world["b"].counters.comparisons >= 2
    world.loses = lambda message: False
    world.run(until=world.are_alike)


def test_what_a_heal_has_moved_is_counted_and_listed() -> None:
    world = World("a", "b")
    world.run(2.0)
    world.cut("a", "b")
    world["a"].plant(1, "s1")
    world.now += 1.0
    world["b"].plant(1, "s2")
    world["b"].plant(2, "s2")
    world.run(1.0)
    for one, other in (("a", "b"), ("b", "a")):
        world[one].turns.returned(NodeName(other))
    world.link("a", "b")
    world.run(until=world.are_alike)
    world.run(HEAL_S)
    (at_a,), (at_b,) = (world[name].turns.heals.all() for name in "ab")
    assert (at_a.moved, at_a.moves, at_a.is_over) == (0, [], True)
    assert at_b.moved == 1
    assert at_b.moves == [
        Move(key_of(1), PoolName("app"), moved_from=BackendName("s2"), moved_to=BackendName("s1"))
    ], "the earlier pin stays"


def test_a_table_is_summed_up_in_the_background_and_nothing_is_compared_before() -> None:
    world = World("a", "b")
    pins = {key_of(number): a_pin(expires_at=NOW + 1_000) for number in range(3 * SCAN_PINS)}
    world["a"].store.update(pins)
    world.run(1.01)
    assert not world["a"].turns._digested.buckets.is_whole
    world.run(until=world.are_alike)
    assert world["a"].turns._digested.buckets.is_whole


def test_two_that_began_with_different_disks_compare_as_soon_as_they_can() -> None:
    """No log tells what a disk held; once they waited for the comparison of each 30 s."""
    world = World("a", "b")
    world["a"].store.update({key_of(number): a_pin(expires_at=NOW + 1_000) for number in (1, 2)})
    world["b"].store.update({key_of(number): a_pin(expires_at=NOW + 1_000) for number in (2, 3)})
    world.run(until=world.are_alike)
    assert world.now - NOW < 5.0
    assert len(world["a"].store) == 3


def test_a_digest_that_differs_leads_to_one_comparison_of_a_stream() -> None:
    """Under load tables differ all the time, by what is under way."""
    world = World("a", "b")
    world.run(2.0)
    pin = a_pin(expires_at=NOW + 1_000)
    for number in range(10):
        world["a"].turns._digested.put(key_of(number), pin)
        world.run(1.0)
    assert not world.are_alike()
    assert not world.sent(BucketHashes)


def test_a_provisional_pin_from_before_the_start_is_settled_after_it() -> None:
    world = World("a", "b")
    pin = a_pin(expires_at=NOW + 1_000, rank=Rank.PROVISIONAL)
    world["a"].store[key_of(1)] = world["b"].store[key_of(1)] = pin
    for name in ("a", "b"):
        world[name].turns.receive(ViewChanged((NodeName("a"), NodeName("b")), 1, quorate=True))
    world.run(until=lambda: world["a"].store[key_of(1)].rank is Rank.QUORATE)
    world.run(until=world.are_alike)


def test_nobody_compares_with_a_node_whose_table_is_on_its_way() -> None:
    """Its own is as good as empty: all that the other one has would be told to everybody again."""
    world = World("a", "b")
    world["a"].plant(1)
    joiner = world["b"]
    joiner.turns.buckets.restart([0] * BUCKETS)
    world.loses = lambda message: isinstance(message, PullRequest)
    joiner.turns.pull(NodeName("a"), is_synced=True)
    assert joiner.turns.replication.is_taking
    world.carried.clear()
    joiner.turns.hear(NodeName("a"), [BucketHashes(1, (Hash64(1),) * BUCKETS)])
    joiner.turns.take()
    assert not any(isinstance(word, BucketsDiffering) for word in world.carried)
    joiner.turns.repair.compare(NodeName("a"), world.now)
    assert not joiner.turns.repair.is_asking


def met(world: World, *, name: str) -> list[NodeName]:
    """Whose tables `name` has been told to have met, filled as that happens."""
    told: list[NodeName] = []
    world[name].turns.repair.on_met = told.append
    return told


def hasten(world: World) -> None:
    world["a"].turns.compare_soon(NodeName("b"))
    world["b"].turns.compare_soon(NodeName("a"))


def test_strangers_whose_tables_are_alike_know_it_at_once() -> None:
    world = World("a", "b")
    world.run(DIGEST_EVERY_S + 0.1)  # both know their sums by now
    met_by_a, met_by_b = met(world, name="a"), met(world, name="b")
    hasten(world)
    world.run(HASTE_EVERY_S / 2)
    assert (met_by_a, met_by_b) == (["b"], ["a"])
    assert not world.sent(BucketHashes)


def test_strangers_whose_disks_differ_compare_at_once_and_have_all_before_they_have_met() -> None:
    world = World("a", "b")
    for name, number in (("a", 1), ("b", 2)):
        world[name].turns._digested.put(key_of(number), a_pin())  # no log tells of it
    met_by_a, met_by_b = met(world, name="a"), met(world, name="b")
    hasten(world)
    world.run(2 * HASTE_EVERY_S)
    assert (met_by_a[:1], met_by_b[:1]) == (["b"], ["a"])
    assert world.are_alike()


def test_a_stranger_that_never_answers_is_not_waited_for_for_ever() -> None:
    world = World("a", "b")
    world["a"].turns._digested.put(key_of(1), a_pin())
    met_by_a = met(world, name="a")
    world.loses = lambda message: isinstance(message, Digest | BucketHashes)
    hasten(world)
    world.run(HASTE_S_MAX - 1.0)
    assert not met_by_a
    world.run(2.0)
    assert met_by_a == ["b"]


def test_a_stranger_that_is_gone_is_not_waited_for() -> None:
    world = World("a", "b")
    met_by_a = met(world, name="a")
    hasten(world)
    world.cut("a", "b")
    world.run(HASTE_S_MAX + 1.0)
    assert not met_by_a
