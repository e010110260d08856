from meshlb.cluster import acquaintance
from meshlb.cluster.acquaintance import Acquaintance
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import DeltaAck, Digest, PushPull, ViewMark
from tests.fakes.claims import B
from tests.fakes.swim import told
from tests.unit.cluster.test_turns import World

BOOT = BootId(2)


class Node:
    """A node that knows B of old, and meets it anew."""

    def __init__(self) -> None:
        self.world = World()
        self.acquaintance = Acquaintance(self.world.turns)

    def meet(self, boot_id: BootId = BOOT, *, am_synced: bool = True, synced: bool = True) -> None:
        """A stream to B, and the first words on it."""
        self.world.sent.clear()
        self.acquaintance.opened(B, boot_id, am_synced=am_synced)
        self.acquaintance.heard(B, [PushPull((told(B, synced=synced),), False)])
        self.world.turns.hear(B, [DeltaAck(BootId(0), 0)])
        self.world.turns.take()

    def part(self, boot_id: BootId = BOOT, *, are_synced: bool = True) -> None:
        self.acquaintance.closed(B, boot_id, are_synced=are_synced)

    def marks(self) -> bool:
        """Whether B was sent a mark on this stream."""
        self.world.turns.take()
        return any(isinstance(message, ViewMark) for message in self.world.sent)

    def is_alike(self) -> None:
        """B proves that its table is the same."""
        table = self.world.turns.buckets.total
        self.world.turns.hear(B, [Digest(BootId(9), 0, table, ())])


def a_node() -> Node:
    node = Node()
    node.world.turns.buckets.restart([0] * 4_096)
    return node


def test_who_was_in_sync_before_it_was_met_gets_no_mark_until_its_table_was_compared() -> None:
    node = a_node()
    node.meet()
    assert not node.marks()
    assert any(isinstance(message, Digest) for message in node.world.sent), "at once"
    node.is_alike()
    assert node.marks()


def test_who_is_about_to_join_gets_its_mark_at_once() -> None:
    node = a_node()
    node.meet(synced=False)
    assert node.marks()


def test_a_node_that_is_about_to_join_withholds_nothing() -> None:
    node = a_node()
    node.meet(am_synced=False)
    assert node.marks()


def test_a_peer_that_has_not_said_whether_it_is_in_sync_gets_no_mark() -> None:
    node = a_node()
    node.world.sent.clear()
    node.acquaintance.opened(B, BOOT, am_synced=True)
    node.world.turns.hear(B, [DeltaAck(BootId(0), 0)])
    assert not node.marks()


def test_who_was_met_before_is_no_stranger_on_the_next_stream() -> None:
    node = a_node()
    node.meet()
    node.is_alike()
    node.part()
    node.meet()
    assert node.marks()


def test_who_has_started_anew_is_a_stranger_again() -> None:
    node = a_node()
    node.meet()
    node.is_alike()
    node.part()
    node.meet(BootId(3))
    assert not node.marks()


def test_who_was_given_up_is_a_stranger_again() -> None:
    node = a_node()
    node.meet()
    node.is_alike()
    node.part()
    node.acquaintance.given_up(B)
    node.meet()
    assert not node.marks()


def test_a_stream_that_ended_before_the_tables_had_met_counts_for_nothing() -> None:
    node = a_node()
    node.meet()
    node.part()
    node.meet()
    assert not node.marks()


def test_nor_does_one_that_ended_before_both_were_in_sync() -> None:
    node = a_node()
    node.meet(synced=False)
    node.part(are_synced=False)
    node.meet()
    assert not node.marks()


def test_the_peers_that_are_remembered_are_bounded() -> None:
    node = a_node()
    node.meet()
    node.is_alike()
    node.part()
    for number in range(acquaintance.LIVES_MAX):
        peer = NodeName(f"n{number}")
        node.acquaintance.opened(peer, BOOT, am_synced=False)
        node.acquaintance.closed(peer, BOOT, are_synced=True)
    node.meet()
    assert not node.marks()
