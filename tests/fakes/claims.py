"""One claim machine in a cluster of names, for transcripts: what it is told, what it answers."""

from meshlb.core.sticky.claims import ClaimMachine
from meshlb.core.sticky.events import (
    ClaimDone,
    ClaimStarted,
    Effect,
    Event,
    PeerConnected,
    PeerFed,
    PeerMessages,
    PeerWord,
    Send,
    Stored,
    ViewChanged,
)
from meshlb.core.sticky.homes import SLOTS, Homes
from meshlb.core.sticky.pin import Pin, Proposal, record_from_pin
from meshlb.core.sticky.proposals import claim_from_proposal
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import (
    ClaimAnswer,
    PinRecord,
    Replicate,
    ReplicateAnswer,
    Verdict,
    ViewMark,
)
from tests.fakes.pins import NOW, DictStore, a_key

ME, B, C = NodeName("me"), NodeName("node-b"), NodeName("node-c")
OWNERS = (ME, B, C)
VIEW_ID = 1


def key_held_by(
    home: NodeName, backup: NodeName | None, *, owners: tuple[NodeName, ...] = OWNERS, nth: int = 0
) -> SessionKey:
    """A key with these holders."""
    homes = Homes(owners)
    slots = [slot for slot in range(SLOTS) if homes.slot_holders(slot) == (home, backup)]
    return a_key(slot=slots[nth])


class Stage:
    """The machine of `ME`; each method tells it something and gives what it does then."""

    def __init__(self, *, owners: tuple[NodeName, ...] = OWNERS, is_marked: bool = True) -> None:
        self.now = NOW
        self.store = DictStore()
        self.machine = ClaimMachine(ME, self.store)
        for peer in (B, C):
            self.tell(PeerConnected(peer, BootId(1)))
            self.tell(PeerFed(peer))
        self.enter(owners, is_marked=is_marked)

    def tell(self, event: Event) -> list[Effect]:
        return self.machine.receive(event, self.now)

    def enter(
        self,
        owners: tuple[NodeName, ...],
        *,
        view_id: int = VIEW_ID,
        is_quorate: bool = True,
        is_marked: bool = True,
    ) -> list[Effect]:
        effects = self.tell(ViewChanged(owners, view_id, quorate=is_quorate))
        if is_marked:
            for peer in owners:
                if peer != ME:
                    effects += self.hear(peer, ViewMark(view_id))
        return effects

    def hear(self, peer: NodeName, message: PeerWord) -> list[Effect]:
        return self.tell(PeerMessages(peer, (message,)))

    def start(self, proposal: Proposal, *, token: int = 1) -> list[Effect]:
        return self.tell(ClaimStarted(token, proposal))

    def claimed_by(
        self, peer: NodeName, proposal: Proposal, *, request: int = 9, is_hedged: bool = False
    ) -> list[Effect]:
        return self.hear(peer, claim_from_proposal(proposal, request=request, is_hedged=is_hedged))

    def asked_to_hold(self, home: NodeName, key: SessionKey, pin: Pin) -> list[Effect]:
        return self.hear(home, Replicate(5, VIEW_ID, record_from_pin(key, pin, now=self.now)))

    def wait(self, seconds: float) -> list[Effect]:
        """Time passes; every timer rings when it is due."""
        until, effects = self.now + seconds, list[Effect]()
        while (deadline := self.machine.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            effects += self.machine.handle_timer(self.now)
        self.now = until
        return effects


def sent(effects: list[Effect]) -> list[tuple[NodeName, PeerWord]]:
    """Who was sent what."""
    return [(effect.peer, effect.message) for effect in effects if isinstance(effect, Send)]


def the_answer(effects: list[Effect]) -> tuple[NodeName, Verdict, PinRecord | None]:
    """The only answer to a claim or a replication among `effects`."""
    (answer,) = [
        (peer, message.verdict, message.pin)
        for peer, message in sent(effects)
        if isinstance(message, ClaimAnswer | ReplicateAnswer)
    ]
    return answer


def the_done(effects: list[Effect]) -> ClaimDone:
    """The only claim that has ended."""
    (done,) = [effect for effect in effects if isinstance(effect, ClaimDone)]
    return done


def the_replicate(effects: list[Effect]) -> tuple[NodeName, Replicate]:
    """The only pin that a backup is asked to hold."""
    (replicate,) = [
        (peer, message) for peer, message in sent(effects) if isinstance(message, Replicate)
    ]
    return replicate


def announced(effects: list[Effect]) -> list[tuple[SessionKey, str, int]]:
    """Key, backend and rank of what everybody is told."""
    return [
        (effect.key, effect.pin.backend, effect.pin.rank)
        for effect in effects
        if isinstance(effect, Stored)
    ]
