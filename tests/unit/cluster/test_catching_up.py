from pathlib import Path

from meshlb.cluster.catching_up import AWAY_S_MAX
from meshlb.cluster.replication import PULL_STALL_S
from meshlb.core.sticky.merge import TOMBSTONE_GRACE_S
from meshlb.model import BootId
from meshlb.store import LmdbPins
from meshlb.wire.limits import BUCKETS
from meshlb.wire.messages import BucketHashes, Digest, Message, PullRequest
from tests.fakes.claims import B
from tests.fakes.pins import NOW, a_key, a_pin
from tests.unit.cluster.test_turns import World


def asked_for(world: World) -> Message:
    """What a pull of the table of B begins with."""
    (word,) = [m for m in world.sent if isinstance(m, PullRequest | BucketHashes)]
    return word


def joining(*, pins: int = 0, away_s: float | None = None) -> World:
    """A node that has started with so many pins on its disk, and knows their sums."""
    world = World()
    world.pins = {a_key(number): a_pin() for number in range(pins)}
    world.turns.buckets.restart([0] * BUCKETS)
    if away_s is not None:
        world.turns.catching_up.came_back(NOW - away_s, NOW)
    world.sent.clear()
    return world


def test_a_node_without_a_table_pulls_one() -> None:
    for is_synced in (True, False):
        world = joining()
        world.turns.pull(B, is_synced=is_synced)
        assert asked_for(world) == PullRequest(1)


def test_a_node_that_was_away_for_a_moment_compares() -> None:
    world = joining(pins=3, away_s=AWAY_S_MAX)
    world.turns.pull(B, is_synced=True)
    assert isinstance(asked_for(world), BucketHashes)
    assert world.turns.replication.pulling_from == B


def test_a_node_that_was_away_for_longer_or_nobody_knows_how_long_pulls() -> None:
    for away_s in (AWAY_S_MAX + 1.0, None):
        world = joining(pins=3, away_s=away_s)
        world.turns.pull(B, is_synced=True)
        assert asked_for(world) == PullRequest(1)


def test_where_all_were_away_tables_are_compared() -> None:
    world = joining(pins=3, away_s=AWAY_S_MAX + 1.0)
    world.turns.pull(B, is_synced=False)
    assert isinstance(asked_for(world), BucketHashes)


def test_no_comparison_begins_while_a_table_is_on_its_way() -> None:
    world = joining(pins=3, away_s=AWAY_S_MAX + 1.0)
    world.turns.pull(B, is_synced=True)
    world.turns.pull(B, is_synced=False)
    assert asked_for(world) == PullRequest(1)


def test_who_was_away_for_longer_than_tombstones_are_kept_never_compares() -> None:
    world = joining(pins=3, away_s=TOMBSTONE_GRACE_S + 1.0)
    world.turns.pull(B, is_synced=False)
    assert asked_for(world) == PullRequest(1)


def test_a_node_that_does_not_know_its_sums_pulls() -> None:
    world = joining(pins=3, away_s=1.0)
    world.turns.buckets.restart(None)
    world.turns.pull(B, is_synced=True)
    assert asked_for(world) == PullRequest(1)


def test_a_node_in_sync_never_replaces_its_table(tmp_path: Path) -> None:
    store = LmdbPins(tmp_path)
    for is_joining in (True, False):
        world = World(store)
        if not is_joining:
            world.turns.catching_up.synced()
        world.sent.clear()
        world.turns.pull(B, is_synced=True)
        assert asked_for(world) == PullRequest(1, packed=is_joining)
    store.close()


def test_a_comparison_that_is_not_answered_is_given_up_though_the_peer_sends_digests() -> None:
    world = joining(pins=3, away_s=1.0)
    world.turns.pull(B, is_synced=True)
    begun = world.turns.replication._pull
    assert begun is not None
    begun.heard_at = NOW - PULL_STALL_S - 0.1
    world.turns.hear(B, [Digest(BootId(2), 0, None, ())])
    world.turns.take()
    assert world.turns.replication.pulling_from is None
