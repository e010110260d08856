"""How an operator's word gets around; messages are carried by hand."""

from collections.abc import Iterable
from typing import cast

from structlog.testing import capture_logs

from meshlb.cluster.broadcasts import Broadcasts
from meshlb.cluster.link import Link
from meshlb.cluster.overrides import Overrides
from meshlb.cluster.words import BACKEND_STATE, Words
from meshlb.model import BackendName, BackendState, BootId, NodeName, PoolName
from meshlb.wire.broadcast_words import Broadcast, Payload
from meshlb.wire.codec import encode
from meshlb.wire.messages import BackendOverride, Message

ME, B, C = NodeName("me"), NodeName("b"), NodeName("c")
WORD = BackendOverride(PoolName("app"), BackendName("s1"), BackendState.DRAINING, 7, B)


class Member:
    """A member whose words go nowhere, and whose disk is watched."""

    def __init__(self) -> None:
        self.saved: list[tuple[BackendOverride, ...]] = []
        self.news: list[BackendOverride] = []
        self.told: list[tuple[Message, NodeName | None]] = []
        self.answered: list[tuple[NodeName, Message]] = []
        self.overrides = Overrides(ME, self)
        self.broadcasts = Broadcasts(
            lambda peer, message: self.answered.append((peer, message)), lambda peer: False
        )
        self.words = Words(
            self.overrides,
            broadcasts=self.broadcasts,
            on_news=self.news.append,
            tell_all=lambda message, but: self.told.append((message, but)),
        )

    def load(self) -> tuple[BackendOverride, ...]:
        return ()

    def save(self, words: Iterable[BackendOverride]) -> None:
        self.saved.append(tuple(words))

    def broadcast(self, payload: bytes) -> None:
        message = Broadcast(1, BACKEND_STATE, Payload(payload))
        self.broadcasts.hear(B, BootId(1), message)


class Outbox:
    """What a new stream is given first."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def tell(self, *messages: Message) -> None:
        self.sent += messages


def test_a_word_that_is_news_is_passed_on_to_all_but_its_teller_and_only_once() -> None:
    member = Member()
    for _ in range(2):
        member.words.hear(C, [WORD])
    assert member.news == [WORD]
    assert member.told == [(WORD, C)]


def test_a_word_is_on_disk_before_it_is_acknowledged() -> None:
    member = Member()
    member.broadcast(encode([WORD]))
    assert member.saved == [(WORD,)]
    assert [peer for peer, _ in member.answered] == [B]


def test_words_that_come_together_are_written_together() -> None:
    member = Member()
    others = [
        BackendOverride(PoolName("app"), BackendName(f"s{number}"), BackendState.UP, 1, B)
        for number in range(5)
    ]
    member.words.hear(B, others)
    assert [len(words) for words in member.saved] == [5]


def test_a_new_stream_hears_every_word() -> None:
    member, outbox = Member(), Outbox()
    member.words.hear(B, [WORD])
    member.words.greet(cast("Link", outbox))
    assert outbox.sent == [WORD]


def test_a_malformed_broadcast_changes_nothing() -> None:
    member = Member()
    with capture_logs() as lines:
        member.broadcast(b"\xc1")
    assert [line["log_level"] for line in lines] == ["warning"]
    assert (member.news, member.saved) == ([], [])


async def test_members_of_a_version_without_broadcasts_are_told_in_their_own_words() -> None:
    member = Member()
    await member.words.tell(WORD, lambda: (), timeout_s=0.0)
    assert member.told == [(WORD, None)]
