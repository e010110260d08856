"""The datagram port of a simulated member: introductions, counters and the real replay window.

Owns: what `meshlb.cluster.datagrams` does, without ciphers; every datagram that was ever sent
lies here for an attacker to send it again. Must not know: what the messages mean.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlb.model import Address, BootId, NodeName
from meshlb.wire.messages import Message
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


class Post:
    """Carries datagrams between ports; set up once for the world."""

    def __init__(self, carry: Callable[[Datagram, Address], None]) -> None:
        self.carry = carry
        self.recorded: deque[Datagram] = deque(maxlen=RECORDED_MAX)


class SimPort:
    """As `meshlb.cluster.datagrams.DatagramPort`."""

    def __init__(self, process: "Process", post: Post) -> None:
        self._process = process
        self._post = post
        self._counter = 0
        self._windows: dict[tuple[NodeName, BootId], ReplayWindow] = {}
        self.refused = 0

    def introduce(self, name: NodeName, boot_id: BootId) -> None:
        self._windows.setdefault((name, boot_id), ReplayWindow())

    def trust(self, name: NodeName, boot_id: BootId) -> None:
        self.introduce(name, boot_id)

    def send(self, to: Address, messages: tuple[Message, ...]) -> None:
        self._counter += 1
        me = self._process.me
        self._process.touch_off("datagram")
        frame = self._process.tongue.out(messages)
        datagram = Datagram(me.name, me.boot_id, me.address, self._counter, frame)
        self._post.recorded.append(datagram)
        self._post.carry(datagram, to)

    def arrive(self, datagram: Datagram) -> None:
        """A datagram, authentic or played again."""
        window = self._windows.get((datagram.sender, datagram.boot_id))
        if window is None or not window.is_fresh(datagram.counter):
            self.refused += 1
            return
        messages = self.read(datagram)
        if messages is None:
            self.refused += 1
            return
        window.mark(datagram.counter)
        self._process.watcher.accepted(self._process, datagram)
        self._process.agent.datagram(datagram.sender, datagram.boot_id, datagram.source, messages)

    def read(self, datagram: Datagram) -> tuple[Message, ...] | None:
        """Its messages; None where it is of a later version, sent to an earlier process here."""
        try:
            return self._process.tongue.into(datagram.messages)
        except Stranger:
            return None
