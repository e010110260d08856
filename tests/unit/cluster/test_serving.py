import pytest

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.serving import PULLS_SERVED_MAX, PullServer
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.stamps import StampClock
from meshlb.model import NodeName, SessionKey
from meshlb.wire.limits import PINS_PER_MESSAGE_MAX
from meshlb.wire.messages import Message, PullChunk, PullRequest
from tests.fakes.pins import a_key, a_pin

A = NodeName("a")


class Rig:
    """A server of a table in a dict, and streams in lists."""

    def __init__(self) -> None:
        self.table: dict[SessionKey, Pin] = {}
        self.sent: list[Message] = []
        self.is_full = False
        self.serving = PullServer(self, self, MeshCounters(), stamps=StampClock())

    def get(self, key: SessionKey) -> Pin | None:
        return self.table.get(key)

    def scan(self, after: SessionKey | None, limit: int) -> list[tuple[SessionKey, Pin]]:
        keys = sorted(k for k in self.table if after is None or k > after)
        return [(k, self.table[k]) for k in keys[:limit]]

    def send(self, peer: NodeName, message: Message) -> None:
        self.sent.append(message)

    def takes_more(self, peer: NodeName) -> bool:
        return not self.is_full

    def serve_all(self) -> None:
        while self.serving.serve(table_now=0.0):
            pass


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_table_is_served_in_chunks_and_only_while_there_is_room(rig: Rig) -> None:
    rig.table = {a_key(n): a_pin() for n in range(PINS_PER_MESSAGE_MAX + 1)}
    rig.serving.asked(A, PullRequest(9))
    rig.is_full = True
    rig.serving.serve(table_now=0.0)
    assert rig.sent == []
    rig.is_full = False
    rig.serve_all()
    assert [(len(c.pins), c.last) for c in rig.sent if isinstance(c, PullChunk)] == [
        (PINS_PER_MESSAGE_MAX, False),
        (1, False),
        (0, True),
    ]


def test_a_peer_without_room_is_not_tried_again_and_again(rig: Rig) -> None:
    rig.serving.asked(A, PullRequest(9))
    rig.is_full = True
    assert not rig.serving.serve(table_now=0.0)


def test_only_so_many_peers_are_served_at_a_time(rig: Rig) -> None:
    for number in range(PULLS_SERVED_MAX + 1):
        rig.serving.asked(NodeName(f"n{number}"), PullRequest(1))
    rig.serving.serve(table_now=0.0)
    assert len(rig.sent) == PULLS_SERVED_MAX


def test_a_new_request_takes_the_place_of_the_one_before_and_a_closed_stream_ends_it(
    rig: Rig,
) -> None:
    rig.serving.asked(A, PullRequest(1))
    rig.serving.asked(A, PullRequest(2))
    rig.serve_all()
    assert rig.sent == [PullChunk(2, (), last=True)]
    rig.serving.asked(A, PullRequest(3))
    rig.serving.closed(A)
    rig.serve_all()
    assert len(rig.sent) == 1


def test_who_takes_packed_records_gets_chunks_where_there_are_none(rig: Rig) -> None:
    rig.serving.asked(A, PullRequest(1, packed=True))
    rig.serve_all()
    assert rig.sent == [PullChunk(1, (), last=True)]
