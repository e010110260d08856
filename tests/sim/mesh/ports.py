"""The datagram port of a simulated member: introductions, challenges, counters, the real window.

Owns: what `meshlb.cluster.datagrams` does, without ciphers; every datagram that was ever sent
lies here for an attacker to send it again. Must not know: what the messages mean.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from meshlb.cluster.datagrams import NONCE_BYTES
from meshlb.model import Address, BootId, NodeName
from meshlb.wire.messages import Challenge, ChallengeAnswer, Message
from meshlb.wire.seal import ReplayWindow
from tests.fakes.version_1 import Stranger
from tests.sim.mesh.tongues import Frame

if TYPE_CHECKING:
    from tests.sim.mesh.process import Process

RECORDED_MAX = 2_000
"""Datagrams that an attacker has on record, of all senders."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """What a seal vouches for, and what it covers."""

    sender: NodeName
    boot_id: BootId
    source: Address
    counter: int
    messages: Frame
    sent_at: float
    """World time, for the judge; no node looks at it."""


class Post:
    """Carries datagrams between ports; set up once for the world."""

    def __init__(self, carry: Callable[[Datagram, Address], None]) -> None:
        self.carry = carry
        self.recorded: deque[Datagram] = deque(maxlen=RECORDED_MAX)


class SimPort:
    """As `meshlb.cluster.datagrams.DatagramPort`."""

    def __init__(self, process: "Process", post: Post, rng: Random) -> None:
        """`rng` draws the nonces of challenges."""
        self._process = process
        self._post = post
        self._rng = rng
        self._counter = 0
        self._windows: dict[tuple[NodeName, BootId], ReplayWindow | None] = {}
        self._nonces: dict[tuple[NodeName, BootId], int] = {}
        self._latest: dict[Address, tuple[Message, ...]] = {}
        self.refused = 0

    def introduce(self, name: NodeName, boot_id: BootId) -> None:
        self._windows.setdefault((name, boot_id), None)

    def prove(self, who: tuple[NodeName, BootId], counter: int) -> None:
        """This start of a peer has just sealed a datagram with `counter`; later ones count."""
        self._windows[who] = ReplayWindow(counter)

    def trust(self, name: NodeName, boot_id: BootId) -> None:
        self.introduce(name, boot_id)
        if self._windows[name, boot_id] is None:
            self.prove((name, boot_id), 0)

    def send(self, to: Address, messages: tuple[Message, ...]) -> None:
        self._latest[to] = messages
        self._send(to, messages)

    def _send(self, to: Address, messages: tuple[Message, ...]) -> None:
        self._counter += 1
        me = self._process.me
        self._process.touch_off("datagram")
        frame = self._process.tongue.out(messages)
        now = self._process.world.now
        datagram = Datagram(me.name, me.boot_id, me.address, self._counter, frame, now)
        self._post.recorded.append(datagram)
        self._post.carry(datagram, to)

    def arrive(self, datagram: Datagram) -> None:
        """A datagram, authentic or played again."""
        who = (datagram.sender, datagram.boot_id)
        window = self._windows.get(who)
        if who not in self._windows or (window and not window.is_fresh(datagram.counter)):
            self.refused += 1
            return
        messages = self._read(datagram)
        if messages is None:
            self.refused += 1
            return
        if window is not None:
            window.mark(datagram.counter)
        match messages:
            case (Challenge(nonce),):
                self._send(datagram.source, (ChallengeAnswer(nonce),))
                if (latest := self._latest.pop(datagram.source, None)) is not None:
                    self._send(datagram.source, latest)
            case (ChallengeAnswer(nonce),):
                if window is None and self._nonces.get(who) == nonce:
                    del self._nonces[who]
                    self.prove(who, datagram.counter)
            case _ if window is not None:
                self._process.watcher.accepted(self._process, datagram)
                self._process.agent.datagram(*who, datagram.source, messages)
            case _:
                assert not isinstance(datagram.messages, bytes), "version 1 has no challenges"
                self.refused += 1
                nonce = self._nonces.setdefault(who, self._rng.getrandbits(8 * NONCE_BYTES))
                self._send(datagram.source, (Challenge(nonce),))

    def _read(self, datagram: Datagram) -> tuple[Message, ...] | None:
        """Its messages; None where it is of a later version, sent to an earlier process here."""
        try:
            return self._process.tongue.into(datagram.messages)
        except Stranger:
            return None
