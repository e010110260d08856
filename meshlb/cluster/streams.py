"""Messages to members by name: what stands between the pins' loop and the links.

Owns nothing.
"""

from collections.abc import Collection

from meshlb.cluster.links import Links
from meshlb.model import NodeName
from meshlb.wire.messages import Message


class LinkStreams:
    """Implements `meshlb.cluster.turns.Streams`; before `links` is set, nobody is there."""

    def __init__(self) -> None:
        self.links: Links | None = None

    def send(self, peer: NodeName, message: Message) -> None:
        """Queue a message on the link to `peer`; dropped where there is none, or not understood."""
        if self.links is not None and (link := self.links.to(peer)) is not None:
            link.tell(message)

    def takes_more(self, peer: NodeName) -> bool:
        """True where the link to `peer` has room for what can wait."""
        link = self.links.to(peer) if self.links is not None else None
        return link is not None and link.is_low

    def peers(self) -> Collection[NodeName]:
        """All members that there is a link to."""
        return [link.name for link in self.links.all()] if self.links is not None else ()

    def flush(self) -> None:
        """Let out what was queued."""
        if self.links is not None:
            for link in self.links.all():
                link.flush()
