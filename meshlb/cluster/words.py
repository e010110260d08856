"""The operator's words on their way through the cluster.

Owns how a word reaches everybody: told to all when it is spoken, passed on by each member to which
it is news, and repeated in full on every new stream. So it arrives also where its speaker reaches
nobody, or is gone already. Which of two words stays is the business of `overrides`.

Spec: protocol/spec/replication.md, "Overrides"; protocol/spec/broadcast.md, "Topics".
"""

from collections.abc import Callable, Iterable
from typing import Final

import structlog

from meshlb.cluster.broadcasts import Broadcasts, Receipt
from meshlb.cluster.link import Link
from meshlb.cluster.overrides import Overrides
from meshlb.errors import WireError
from meshlb.model import NodeName
from meshlb.wire.broadcast_words import Payload, Topic
from meshlb.wire.codec import decode, encode
from meshlb.wire.messages import BackendOverride, Message

BACKEND_STATE: Final = Topic("backend-state")

_log = structlog.get_logger("meshlb.cluster")


class Words:
    """One per node that has a cluster."""

    def __init__(
        self,
        overrides: Overrides,
        *,
        broadcasts: Broadcasts,
        on_news: Callable[[BackendOverride], None],
        tell_all: Callable[[Message, NodeName | None], None],
    ) -> None:
        """Wire.

        Args:
            overrides: what is known.
            broadcasts: on which words are heard, and spoken if somebody waits for the answer.
            on_news: told of each word of others that is news.
            tell_all: sends on all streams but the one to the member named.
        """
        self._overrides = overrides
        self._broadcasts = broadcasts
        self._on_news = on_news
        self._tell_all = tell_all
        broadcasts.handle(BACKEND_STATE, self._told)

    def greet(self, link: Link) -> None:
        """Say on a new stream all that is known."""
        link.tell(*self._overrides.all())

    def hear(self, teller: NodeName, words: Iterable[Message]) -> None:
        """Take in those of `words` that are an operator's, and pass on what is news."""
        for word in words:
            if isinstance(word, BackendOverride) and self._overrides.hear(word):
                self._on_news(word)
                self._tell_all(word, teller)
        self._overrides.keep()

    def _told(self, sender: NodeName, payload: Payload) -> None:
        try:
            words = decode(payload)
        except WireError as error:
            _log.warning("a malformed broadcast", sender=sender, reason=str(error))
            return
        self.hear(sender, words)

    async def tell(
        self,
        word: BackendOverride,
        members: Callable[[], Iterable[NodeName]],
        *,
        timeout_s: float,
    ) -> Receipt:
        """Tell a word of this node's operator to all `members`; who has taken it in."""
        self._tell_all(word, None)  # for members of a version that knows no broadcasts
        payload = Payload(encode([word]))
        return await self._broadcasts.tell(BACKEND_STATE, payload, members, timeout_s=timeout_s)
