"""Messages to members by name: what stands between the pins' loop and the links.

Owns the messages of one turn until they are let out, and their encoding on the way to a link. What
others send on a link meanwhile does not let them out: the store may not have committed yet what
led to them.
"""

from collections.abc import Collection

from meshlb.cluster.link import Link
from meshlb.cluster.links import Links
from meshlb.model import NodeName
from meshlb.wire.codec import encode_message
from meshlb.wire.messages import Message


class LinkStreams:
    """Implements `meshlb.cluster.turns.Streams`; before `links` is set, nobody is there."""

    def __init__(self) -> None:
        self.links: Links | None = None
        self._said: dict[Link, list[Message]] = {}

    def send(self, peer: NodeName, message: Message) -> None:
        """Say `message` with the next `flush`; dropped without a link that understands it."""
        if self.links is not None and (link := self.links.to(peer)) is not None:
            if link in self._said:
                self._said[link].append(message)
            else:
                self._said[link] = [message]

    def takes_more(self, peer: NodeName) -> bool:
        """True where the link to `peer` has room for what can wait."""
        link = self.links.to(peer) if self.links is not None else None
        return link is not None and link.is_low

    def peers(self) -> Collection[NodeName]:
        """All members that there is a link to."""
        return [link.name for link in self.links.all()] if self.links is not None else ()

    def flush(self) -> None:
        """Let out what was said since the last time, each message encoded once."""
        if not self._said:
            return
        said, self._said = self._said, {}
        encoded: dict[int, bytes] = {}
        for link, messages in said.items():
            batch: list[bytes] = []
            for message in messages:
                if link.takes(type(message)):
                    known = encoded.get(id(message))
                    if known is None:
                        known = encoded[id(message)] = encode_message(message)
                    batch.append(known)
            link.send_all(batch)
            link.flush()
