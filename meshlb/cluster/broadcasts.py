"""Group communication: something told to every member, and who has acknowledged it.

Owns the broadcasts under way and those heard lately. A broadcast is done once each member that
was live when it began has acknowledged it, or is gone; one whose stream breaks gets it again on
the next one. Each member handles it once. Must not know sockets, nor what payloads mean: the
handlers of their topics do.

A member that joins later is not told: what has to outlive a broadcast is for its handler to keep.

Spec: protocol/spec/broadcast.md.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from meshlb.model import BootId, NodeName
from meshlb.wire.broadcast_words import Broadcast, BroadcastAck, Payload, Topic
from meshlb.wire.limits import PAYLOAD_BYTES_MAX
from meshlb.wire.messages import Message

UNDER_WAY_MAX: Final = 64
"""Broadcasts of this node at a time; more wait for their turn."""

HEARD_MAX: Final = 4_096
"""Broadcasts remembered as handled, so that one that comes again is only acknowledged again."""

Handler = Callable[[NodeName, Payload], None]
"""Told of the sender and the payload; acknowledged when it returns."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a broadcast ended; each set of names is sorted."""

    acknowledged: tuple[NodeName, ...]
    waiting_for: tuple[NodeName, ...]
    """Live members that have not acknowledged it in time, or are of a version that cannot."""
    gone: tuple[NodeName, ...]
    """Members that died or left before they could."""

    @property
    def is_complete(self) -> bool:
        """True where every member that is still there has it."""
        return not self.waiting_for


class _UnderWay:
    __slots__ = ("acknowledged", "deaf", "done", "gone", "message", "waiting_for")

    def __init__(self, message: Broadcast, members: Iterable[NodeName]) -> None:
        self.message = message
        self.waiting_for = set(members)
        self.acknowledged: set[NodeName] = set()
        self.gone: set[NodeName] = set()
        self.deaf: set[NodeName] = set()
        self.done = trio.Event()

    def settle(self, member: NodeName, into: set[NodeName]) -> None:
        if member in self.waiting_for:
            self.waiting_for.discard(member)
            into.add(member)
        if not self.waiting_for:
            self.done.set()

    def receipt(self) -> Receipt:
        names = (self.acknowledged, self.waiting_for | self.deaf, self.gone)
        return Receipt(*(tuple(sorted(members)) for members in names))


class Broadcasts:
    """One per node."""

    def __init__(
        self, send: Callable[[NodeName, Message], None], is_deaf: Callable[[NodeName], bool]
    ) -> None:
        """Wire.

        Args:
            send: queues on the stream to a member, and drops where there is none.
            is_deaf: whether a linked member is of a version that knows no broadcasts.
        """
        self._send = send
        self._is_deaf = is_deaf
        self._handlers: dict[Topic, Handler] = {}
        self._under_way: dict[int, _UnderWay] = {}
        self._heard: OrderedDict[tuple[NodeName, BootId, int], None] = OrderedDict()
        self._numbers = 0
        self._turn = trio.Semaphore(UNDER_WAY_MAX)

    def handle(self, topic: Topic, handler: Handler) -> None:
        """Have `handler` told of the broadcasts of others about `topic`."""
        self._handlers[topic] = handler

    async def tell(
        self,
        topic: Topic,
        payload: Payload,
        members: Callable[[], Iterable[NodeName]],
        *,
        timeout_s: float,
    ) -> Receipt:
        """Tell all, and wait until each has acknowledged or `timeout_s` has passed.

        Args:
            topic: what it is about.
            payload: at most `PAYLOAD_BYTES_MAX`.
            members: gives the live ones but this node; asked when it is this broadcast's turn.
            timeout_s: 0 does not wait at all.
        """
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"a payload of {len(payload)} bytes; {PAYLOAD_BYTES_MAX} are allowed")
        async with self._turn:
            self._numbers += 1
            message = Broadcast(self._numbers, topic, payload)
            under_way = _UnderWay(message, members())
            for member in sorted(under_way.waiting_for):
                self._tell_one(member, under_way)
            self._under_way[message.number] = under_way
            try:
                if under_way.waiting_for:
                    with trio.move_on_after(timeout_s):
                        await under_way.done.wait()
            finally:
                del self._under_way[message.number]
            return under_way.receipt()

    def linked(self, peer: NodeName) -> None:
        """There is a new stream to `peer`: what went on the last one may be lost."""
        for under_way in self._under_way.values():
            if peer in under_way.waiting_for:
                self._tell_one(peer, under_way)

    def _tell_one(self, member: NodeName, under_way: _UnderWay) -> None:
        if self._is_deaf(member):
            under_way.settle(member, under_way.deaf)
        else:
            self._send(member, under_way.message)

    def gone(self, member: NodeName) -> None:
        """`member` is dead or has left: nobody waits for it any more."""
        for under_way in self._under_way.values():
            under_way.settle(member, under_way.gone)

    def hear(self, peer: NodeName, boot_id: BootId, message: Broadcast | BroadcastAck) -> None:
        """A word of `peer`, in its life `boot_id`."""
        if isinstance(message, BroadcastAck):
            under_way = self._under_way.get(message.number)
            if under_way is not None:
                under_way.settle(peer, under_way.acknowledged)
            return
        handler = self._handlers.get(message.topic)
        if handler is None:
            return  # not acknowledged, so the sender names this node
        heard = (peer, boot_id, message.number)
        if heard not in self._heard:
            if len(self._heard) >= HEARD_MAX:
                self._heard.popitem(last=False)
            self._heard[heard] = None
            handler(peer, message.payload)
        self._send(peer, BroadcastAck(message.number))
