"""What is heard with a frame: whose business each message is, and that its sender lives.

Owns the sorting, and how often membership is told that a peer lives: a busy stream shows it a
thousand times a second. Must not know what the messages say.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from meshlb.cluster.turns import PIN_WORDS, PinWord
from meshlb.model import NodeName
from meshlb.wire.broadcast_words import Broadcast, BroadcastAck
from meshlb.wire.key_words import KeyringState
from meshlb.wire.messages import Ack, BackendOverride, MemberUpdate, Message, Ping, PushPull

SIGN_OF_LIFE_S: Final = 0.1
"""A tenth of what the fastest profile waits for an answer to a probe."""

SWIM_WORDS: Final[frozenset[type]] = frozenset({Ping, Ack, MemberUpdate, PushPull})
ORDER_WORDS: Final[frozenset[type]] = frozenset(
    {BackendOverride, Broadcast, BroadcastAck, KeyringState}
)
"""What operators have said, and who has taken it in."""


class Sorted(NamedTuple):
    """The messages of one frame."""

    swim: tuple[Message, ...]
    orders: Sequence[Message]
    pins: Sequence[PinWord]


def sort(messages: tuple[Message, ...]) -> Sorted:
    """Tell the messages of a frame apart; most frames are about pins alone."""
    if PIN_WORDS.issuperset(map(type, messages)):
        return Sorted((), (), cast("tuple[PinWord, ...]", messages))
    return Sorted(
        tuple(message for message in messages if type(message) in SWIM_WORDS),
        [message for message in messages if type(message) in ORDER_WORDS],
        cast("list[PinWord]", [message for message in messages if type(message) in PIN_WORDS]),
    )


class SignsOfLife:
    """When each linked peer was last said to live."""

    __slots__ = ("_told_at",)

    def __init__(self) -> None:
        self._told_at: dict[NodeName, float] = {}

    def is_news(self, peer: NodeName, now: float) -> bool:
        """True where nobody has been told lately; they are now."""
        if now < self._told_at.get(peer, -math.inf) + SIGN_OF_LIFE_S:
            return False
        self._told_at[peer] = now
        return True

    def forget(self, peer: NodeName) -> None:
        """The stream to `peer` is gone."""
        self._told_at.pop(peer, None)
