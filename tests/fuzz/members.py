"""A member that is told anything of others, and of itself.

It never raises, holds itself for alive under an incarnation that only rises, and sends only what
fits a datagram and can be read.

Input: operations, each a byte and what it needs.
"""

import random
from collections.abc import Callable, Iterator
from random import Random

from meshlb.core.swim import (
    DatagramReceived,
    Effect,
    Lagged,
    Membership,
    SendDatagram,
    SendStream,
    StreamClosed,
    StreamOpened,
    StreamReceived,
)
from meshlb.errors import WireError
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire import codec
from meshlb.wire.limits import DATAGRAM_PLAIN_BYTES_MAX
from meshlb.wire.messages import Ack, MemberUpdate, Message, Nack, Ping, PingRequest, PushPull
from tests.fakes.swim import address_of, membership
from tests.fuzz.reader import Reader
from tests.fuzz.values import Values, value

NAMES = ["b", "c", "d", "a", "z" * 63]
NUMBERS = [1, 0, 2, 3, 10, 11, 2**31, 2**48 - 1, 2**48, 2**64 - 1]
PAUSES_S = [0.05, 0.0, 0.3, 1.0, 5.0, 30.0]
OPERATIONS_MAX = 48
SPOKEN = [MemberUpdate, PushPull, Ping, PingRequest, Ack, Nack]

_VALUES: Values = {
    int: lambda reader: reader.pick(NUMBERS),
    bool: lambda reader: bool(reader.number() & 1),
    BootId: lambda reader: reader.pick([1, 2, 3, 2**64 - 1]),
    NodeName: lambda reader: reader.pick(NAMES),
    Address: lambda reader: reader.pick(
        [address_of(name) for name in "bcda"] + [Address("::ffff:255.255.255.255", 65_535)]
    ),
}


class Player:
    """One machine, its time, and what it has sent."""

    def __init__(self) -> None:
        self.now = 0.0
        self.machine: Membership = membership("a", boot_id=BootId(1), incarnation=10, rng=Random(1))

    def hear(self, reader: Reader) -> None:
        message = value(reader.pick(SPOKEN), reader, _VALUES)
        try:
            heard = codec.decode(codec.encode([message]))
        except WireError:
            return  # such a message does not arrive
        peer = NodeName(reader.pick(NAMES))
        if reader.number() & 1:
            self.judge(self.machine.receive(StreamReceived(peer, heard), self.now))
        else:
            source = address_of(peer)
            boot_id = reader.pick([None, BootId(1), BootId(2)])
            self.judge(
                self.machine.receive(DatagramReceived(peer, source, heard, boot_id), self.now)
            )

    def stream(self, reader: Reader) -> None:
        kind = StreamOpened if reader.number() & 1 else StreamClosed
        self.judge(self.machine.receive(kind(NodeName(reader.pick(["b", "c"]))), self.now))

    def lag(self, reader: Reader) -> None:
        self.judge(self.machine.receive(Lagged(reader.pick(PAUSES_S)), self.now))

    def decide(self, reader: Reader) -> None:
        if reader.number() & 1:
            self.judge(self.machine.set_synced(self.now))
        else:
            self.judge(self.machine.forget(NodeName(reader.pick(NAMES)), self.now))

    def wait(self, reader: Reader) -> None:
        until = self.now + reader.pick(PAUSES_S)
        for _ in range(2_000):
            due = self.machine.next_deadline()
            assert due is not None, "it has not left"
            if due > until:
                break
            self.now = max(self.now, due)
            self.judge(self.machine.handle_timer(self.now))
        else:
            raise AssertionError("its timers never rest")
        self.now = until

    def judge(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SendDatagram):
                encoded = self.written(effect.messages)
                assert len(encoded) <= DATAGRAM_PLAIN_BYTES_MAX, "it fits no datagram"
            elif isinstance(effect, SendStream):
                self.written(effect.messages)
        assert self.machine.me.state is MemberState.ALIVE
        assert self.machine.me.boot_id == 1

    def written(self, messages: tuple[Message, ...]) -> bytes:
        encoded = codec.encode(messages)
        assert codec.decode(encoded) == messages
        return encoded


def check(given: bytes, under_test: Callable[[], Player] = Player) -> None:
    """Raises what must not happen."""
    reader, player = Reader(given), under_test()
    operations = [player.hear, player.hear, player.hear, player.wait, player.stream]
    operations += [player.lag, player.decide]
    for _ in range(OPERATIONS_MAX):
        if reader.is_empty:
            break
        before = player.machine.me.incarnation
        reader.pick(operations)(reader)
        assert player.machine.me.incarnation >= before


def seeds() -> Iterator[bytes]:
    rng = random.Random(2026)
    for size in (20, 60, 150, 300):
        for _ in range(8):
            yield rng.randbytes(size)
