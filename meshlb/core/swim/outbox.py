"""What membership wants done, collected until the current event is dealt with.

Every datagram takes gossip along as far as it has room; one to a suspect first tells it that
it is suspected. News that this node is the first to have also goes over all open streams at
once, so that everybody learns it within a round trip; what others told us only rides along.

Owns: the collected effects, the set of open streams, the packing of datagrams.
Must not know: why something is sent. Spec: protocol/spec/membership.md, "Dissemination".
"""

from collections.abc import Iterable
from dataclasses import dataclass

from meshlb.core.swim.broadcast import BroadcastQueue, SizeOf
from meshlb.core.swim.events import Effect, SendDatagram, SendStream
from meshlb.core.swim.view import View
from meshlb.model import Address, MemberState, NodeName
from meshlb.wire.limits import DATAGRAM_PLAIN_BYTES_MAX
from meshlb.wire.messages import MemberUpdate, Message


@dataclass(frozen=True, slots=True)
class ReturnPath:
    """How to answer whoever a message came from: by datagram, or on its stream for None."""

    peer: NodeName
    source: Address | None


class Outbox:
    """The effects of one event, in order."""

    def __init__(self, view: View, size_of: SizeOf) -> None:
        self._view = view
        self._size_of = size_of
        self._news = BroadcastQueue(size_of)
        self._effects: list[Effect] = []
        self.streams: dict[NodeName, None] = {}
        """The peers with an open stream, in the order of opening."""

    def drain(self) -> list[Effect]:
        """Take all effects collected so far."""
        effects, self._effects = self._effects, []
        return effects

    def emit(self, effect: Effect) -> None:
        """Ask for `effect` as it is."""
        self._effects.append(effect)

    def datagram(self, to: Address, peer: NodeName, *messages: Message) -> None:
        """Send `messages` to `peer`, and with them the gossip that fits."""
        spare_bytes = DATAGRAM_PLAIN_BYTES_MAX - sum(map(self._size_of, messages))
        warning: tuple[MemberUpdate, ...] = ()
        known = self._view.get(peer)
        if known and known.state is MemberState.SUSPECT and known.update() not in messages:
            warning = (known.update(),)
            spare_bytes -= self._size_of(warning[0])
        gossip = self._news.take(budget_bytes=spare_bytes, members=self._view.live_count())
        self._effects.append(SendDatagram(to, peer, (*messages, *warning, *gossip)))

    def stream(self, peer: NodeName, *messages: Message) -> None:
        """Send `messages` on the stream to `peer`, if there is one."""
        if peer in self.streams:
            self._effects.append(SendStream(peer, messages))

    def answer(self, path: ReturnPath, *messages: Message) -> None:
        """Send `messages` the way that the message they answer came."""
        if path.source is None:
            self._effects.append(SendStream(path.peer, messages))
        else:
            self.datagram(path.source, path.peer, *messages)

    def gossip(self, update: MemberUpdate) -> None:
        """Let `update` ride on the next packets."""
        self._news.push(update)

    def announce(self, update: MemberUpdate) -> None:
        """Send `update` over all streams now, and let it ride as well."""
        self._news.push(update)
        for peer in self.streams:
            self._effects.append(SendStream(peer, (update,)))

    def announce_last(self, update: MemberUpdate, members: Iterable[NodeName]) -> None:
        """As `announce` when no later packet will follow: those without a stream get a datagram."""
        self.announce(update)
        for name in members:
            known = self._view.get(name)
            if known is not None and name not in self.streams:
                self._effects.append(SendDatagram(known.address, name, (update,)))
