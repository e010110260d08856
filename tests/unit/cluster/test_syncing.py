from meshlb.cluster.search import Search
from meshlb.cluster.syncing import Syncing
from meshlb.core.swim.events import StreamReceived
from meshlb.core.swim.membership import Membership
from meshlb.model import Address, BootId
from meshlb.wire.messages import Delta, PullChunk, PullRequest, PushPull
from meshlb.wire.refusal import Refusal
from tests.fakes.claims import B
from tests.fakes.swim import membership, told
from tests.unit.cluster.test_turns import World

AT = Address("10.0.0.9", 7946)
STARTED = BootId(2)
"""This life of B."""


class Node:
    """A node that has just started, and has a stream to B."""

    def __init__(self, *, seeds: tuple[Address, ...] = ()) -> None:
        self.world = World()
        self.world.sent.clear()
        self.membership: Membership = membership()
        self.search = Search(self.membership.me.address, seeds)
        self.synced_at: list[float] = []
        self.syncing = Syncing(
            membership=self.membership,
            turns=self.world.turns,
            search=self.search,
            started_at=0.0,
            on_synced=self._synced,
        )

    def _synced(self, now: float) -> None:
        self.synced_at.append(now)
        self.membership.set_synced(now)

    def meet(self, *, synced: bool) -> None:
        update = told(B, synced=synced)
        self.membership.receive(StreamReceived(B, (PushPull((update,), False),)), 0.0)

    def consider(self) -> None:
        self.syncing.consider({B}, 0.0)

    def pulls(self) -> int:
        return sum(isinstance(message, PullRequest) for message in self.world.sent)


def test_a_node_is_in_sync_once_it_has_the_table_of_a_member_that_is() -> None:
    node = Node()
    node.meet(synced=True)
    node.consider()
    assert "pulling" in node.syncing.reason
    assert node.pulls() == 1
    assert not node.synced_at
    node.world.turns.hear(B, [PullChunk(1, (), last=True)])
    node.consider()
    assert node.syncing.reason == ""
    assert node.synced_at == [0.0]


def test_a_table_that_is_on_its_way_is_not_asked_for_again() -> None:
    node = Node()
    node.meet(synced=True)
    node.consider()
    node.consider()
    assert node.pulls() == 1


def test_a_node_in_sync_fills_a_gap_and_stays_in_sync() -> None:
    node = Node()
    node.meet(synced=False)
    node.consider()
    node.world.turns.hear(B, [PullChunk(1, (), last=True)])
    node.consider()
    node.world.turns.hear(B, [Delta(STARTED, 5, 6, ())])
    node.consider()
    assert node.pulls() == 2
    assert node.syncing.reason == ""
    assert node.synced_at == [0.0]


def test_who_is_refused_and_knows_nobody_is_not_in_sync_until_somebody_lets_it_in() -> None:
    node = Node()
    node.syncing.refused(AT, Refusal.OTHER_SECRET)
    node.syncing.consider(set(), 60.0)
    assert str(AT) in node.syncing.reason
    node.syncing.welcomed()
    node.syncing.consider(set(), 60.0)
    assert node.syncing.reason == ""


def test_an_address_that_was_not_tried_is_waited_for() -> None:
    node = Node(seeds=(AT,))
    node.syncing.consider(set(), 0.0)
    assert node.syncing.reason == "looking for members"
    node.search.tried(AT)
    node.syncing.consider(set(), 0.0)
    assert node.syncing.reason == ""
