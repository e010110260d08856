"""What a turn says, on its way to the links."""

from meshlb.cluster.streams import LinkStreams
from meshlb.model import NodeName
from meshlb.wire.codec import encode_message
from meshlb.wire.messages import PullRequest, ViewMark

B, C = NodeName("node-b"), NodeName("node-c")


class Link:
    """Keeps what it is given, in the order of flushes."""

    def __init__(self) -> None:
        self.queued: list[bytes] = []
        self.left: list[bytes] = []

    def takes(self, kind: type) -> bool:
        return kind is ViewMark

    def send_all(self, encoded: list[bytes]) -> None:
        self.queued += encoded

    def flush(self) -> None:
        self.left += self.queued
        self.queued.clear()


class Links:
    """One link to each of two members."""

    def __init__(self) -> None:
        self.by_name = {B: Link(), C: Link()}

    def to(self, name: NodeName) -> Link | None:
        return self.by_name.get(name)


def streams(links: Links) -> LinkStreams:
    made = LinkStreams()
    made.links = links
    return made


def test_what_a_turn_says_is_not_let_out_by_others() -> None:
    links = Links()
    said = streams(links)
    said.send(B, ViewMark(1))
    links.by_name[B].flush()
    assert not links.by_name[B].left
    said.flush()
    assert links.by_name[B].left == [encode_message(ViewMark(1))]


def test_a_message_for_two_is_encoded_once() -> None:
    links = Links()
    said = streams(links)
    mark = ViewMark(1)
    said.send(B, mark)
    said.send(C, mark)
    said.flush()
    assert links.by_name[B].left[0] is links.by_name[C].left[0]


def test_what_was_said_on_a_link_does_not_go_out_on_the_next_one() -> None:
    links = Links()
    said = streams(links)
    said.send(B, ViewMark(1))
    old, links.by_name[B] = links.by_name[B], Link()
    said.send(B, ViewMark(2))
    said.flush()
    assert old.left == [encode_message(ViewMark(1))]
    assert links.by_name[B].left == [encode_message(ViewMark(2))]


def test_what_nobody_hears_or_understands_is_dropped() -> None:
    said = streams(Links())
    said.send(NodeName("stranger"), ViewMark(1))
    said.send(B, PullRequest(1))
    said.flush()
    assert not said.takes_more(NodeName("stranger"))
