"""What each process has heard on its present streams: marks, positions in logs, gaps.

Owns: what a process must know of its peers by what they have said, for the judge to compare with
what it does. Must not know: pins, and what follows from a breach.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from meshlb.model import BootId, NodeName
from meshlb.wire.messages import BucketPins, Delta, DeltaAck, Message, PullChunk, ViewMark
from meshlb.wire.runs import TableRun
from tests.sim.mesh.process import Process


@dataclass
class _Heard:
    """By one process."""

    marks: dict[NodeName, int] = field(default_factory=dict)
    """The view that each peer has marked, where it counts."""
    told: dict[NodeName, list[int]] = field(default_factory=lambda: defaultdict(list))
    """All that each peer has marked on the present stream, the latest last."""
    waiting: set[NodeName] = field(default_factory=set)
    """Peers whose latest mark does not count yet: what came before it is not all here."""
    placed: dict[NodeName, DeltaAck] = field(default_factory=dict)
    """How far it had read the log of each peer when the stream began, until that goes on."""


class Hearing:
    """Of all processes."""

    def __init__(self) -> None:
        self._heard: dict[BootId, _Heard] = defaultdict(_Heard)
        self._gap: tuple[Process, NodeName] | None = None

    def linked(self, process: Process, peer: NodeName) -> None:
        """A new stream: what was heard on the old one counts no more."""
        heard = self._heard[process.me.boot_id]
        heard.marks.pop(peer, None)
        heard.told.pop(peer, None)
        heard.waiting.discard(peer)
        heard.placed[peer] = process.turns.replication.position(peer)

    def heard(self, process: Process, peer: NodeName, messages: Iterable[Message]) -> None:
        """These words are about to be read."""
        heard = self._heard[process.me.boot_id]
        deltas: list[Delta] = []
        is_pull = False
        for message in messages:
            match message:
                case ViewMark(view_id):
                    heard.told[peer].append(view_id)
                    heard.waiting.add(peer)
                case Delta():
                    deltas.append(message)
                case PullChunk() | TableRun() | BucketPins():
                    is_pull = True
        if not is_pull:
            self._follow(process, peer, deltas)

    def _follow(self, process: Process, peer: NodeName, deltas: Iterable[Delta]) -> None:
        """Whether a node must see a gap in what it is about to read of a peer's log."""
        read = process.turns.replication.position(peer)
        for delta in deltas:
            seq = read.seq if read.boot_id == delta.boot_id else 0
            if delta.after_seq > seq:
                self._gap = (process, peer)
            read = DeltaAck(delta.boot_id, max(seq, delta.upto_seq))

    def counted(self, process: Process, peer: NodeName, view_id: int) -> str:
        """A process goes by this mark from now on; why it must not."""
        heard = self._heard[process.me.boot_id]
        if peer in process.turns.replication.gaps:
            return f"{process.name} counts a mark of {peer} before it has what came ahead of it"
        if view_id not in heard.told[peer]:
            return f"{process.name} counts a mark of {peer} that is not of the present stream"
        heard.marks[peer] = view_id
        if view_id == heard.told[peer][-1]:
            heard.waiting.discard(peer)
        return ""

    def has_marked(self, process: Process, peer: NodeName, view_id: int) -> bool:
        """Whether `peer` has marked this view, by what the process may go by now."""
        return self._heard[process.me.boot_id].marks.get(peer) == view_id

    def misplaced(self, process: Process, teller: Process, delta: Delta) -> str:
        """Why a log does not go on where `process` has read it, as far as it reaches back."""
        read = self._heard[process.me.boot_id].placed.pop(teller.name, None)
        if read is None or delta.boot_id != teller.me.boot_id:
            return ""
        seq = read.seq if read.boot_id == delta.boot_id else 0
        if delta.after_seq <= max(seq, teller.log._trimmed_seq):
            return ""
        told = f"goes on after {delta.after_seq} for {process.name}, which has read {read}"
        return f"the log of {teller.name} {told}"

    def stepped(self, process: Process) -> NodeName | None:
        """After a step; the peer whose gap this process should have noticed in it."""
        gap, self._gap = self._gap, None
        heard = self._heard[process.me.boot_id]
        for peer in heard.waiting:  # words ahead of a mark are still read by the one before it
            heard.marks.pop(peer, None)
        if gap is not None and gap[0].is_running:
            reader, peer = gap
            return None if peer in reader.turns.replication.gaps else peer
        return None

    def killed(self) -> None:
        """In the middle of a step."""
        self._gap = None
