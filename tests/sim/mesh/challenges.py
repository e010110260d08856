"""A datagram port that asks strangers for proof, as that of a node does.

Owns: challenges and their answers between simulated members, which those of version 1 know nothing
of. Must not know: what all other messages mean.
"""

from meshlb.model import Address, BootId, NodeName
from meshlb.wire.challenge import Challenge, ChallengeAnswer
from meshlb.wire.messages import Message
from meshlb.wire.seal import ReplayWindow
from tests.sim.mesh.ports import Datagram, SimPort


class ChallengingPort(SimPort):
    """As `meshlb.cluster.datagrams.DatagramPort`; a nonce is the receiver's boot."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # the same ones
        self._unproven: set[tuple[NodeName, BootId]] = set()
        self._latest: dict[Address, tuple[Message, ...]] = {}

    def introduce(self, name: NodeName, boot_id: BootId) -> None:
        if (name, boot_id) not in self._windows:
            self._unproven.add((name, boot_id))

    def trust(self, name: NodeName, boot_id: BootId) -> None:
        self._unproven.discard((name, boot_id))
        self._windows.setdefault((name, boot_id), ReplayWindow())

    def send(self, to: Address, messages: tuple[Message, ...]) -> None:
        self._latest[to] = messages
        super().send(to, messages)

    def arrive(self, datagram: Datagram) -> None:
        who = (datagram.sender, datagram.boot_id)
        if who not in self._unproven and who not in self._windows:
            self.refused += 1
            return
        nonce = int(self._process.me.boot_id)
        match self.read(datagram):
            case None:
                self.refused += 1
            case (Challenge(theirs),):
                super().send(datagram.source, (ChallengeAnswer(theirs),))
                if (latest := self._latest.pop(datagram.source, None)) is not None:
                    super().send(datagram.source, latest)
            case (ChallengeAnswer(answered),):
                if answered == nonce and who in self._unproven:
                    self._unproven.discard(who)
                    self._windows[who] = ReplayWindow(datagram.counter)
            case _ if who in self._unproven:
                assert not isinstance(datagram.messages, bytes), "version 1 has no challenges"
                super().send(datagram.source, (Challenge(nonce),))
            case _:
                super().arrive(datagram)
