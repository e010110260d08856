"""The claim machine on its feet: events in, one commit, effects out, turn by turn.

Owns the loop that drives `ClaimMachine` and `Replication` over a store and streams, and the
callers that wait for their claims. All that happened since the last turn is committed to the
store at once before any effect of it leaves the process: what a peer or a client was told
survives a kill. Must not know membership, sockets or the proxy.

Spec: protocol/spec/pins.md, protocol/spec/replication.md.
"""

import math
from collections.abc import Iterable
from typing import Final, Protocol

import trio

from meshlb.cluster.clock import TableClock
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.history import History
from meshlb.cluster.replication import Carrier, PinReader, Replication
from meshlb.core.sticky.claims import ClaimMachine
from meshlb.core.sticky.events import (
    ClaimDone,
    ClaimStarted,
    Effect,
    Event,
    PeerConnected,
    PeerFed,
    PeerLost,
    PeerMessage,
    PeerWord,
    Send,
    Stored,
)
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.core.sticky.replica import PinStore
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import (
    Delta,
    DeltaAck,
    PullChunk,
    PullRequest,
    ViewMark,
)

LATE_S: Final = 0.02
"""A loop that wakes later than this was kept from reading what peers have said meanwhile."""

GRACE_S_MAX: Final = 1.0
"""The longest time-outs are put off after that."""

PinWord = PeerWord | DeltaAck | PullRequest
"""The messages about pins."""


class TableStore(PinStore, PinReader, Protocol):
    """The store of a member."""

    def commit(self) -> None:
        """Make all that was put since the last commit survive the process."""
        ...


class Streams(Carrier, Protocol):
    """The streams, as the loop sees them."""

    def peers(self) -> Iterable[NodeName]:
        """All peers that there is a stream to."""
        ...

    def flush(self) -> None:
        """Let out what was queued."""
        ...


class NoStreams:
    """The streams of a node that stands alone."""

    def send(self, peer: NodeName, message: object) -> None:
        """Nobody is there."""

    def takes_more(self, peer: NodeName) -> bool:
        """Nobody is there."""
        return False

    def peers(self) -> Iterable[NodeName]:
        """Nobody is there."""
        return ()

    def flush(self) -> None:
        """Nobody is there."""


class _Waiter:
    __slots__ = ("done", "pin")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.pin: Pin | None = None


class PinAgent:
    """One per node."""

    def __init__(
        self,
        *,
        name: NodeName,
        boot_id: BootId,
        store: TableStore,
        clock: TableClock,
        streams: Streams,
        counters: MeshCounters,
    ) -> None:
        self.claims = ClaimMachine(name, store)
        self.history = History()
        self.replication = Replication(ReplicationLog(boot_id), store, streams, counters)
        self._name = name
        self._store = store
        self._clock = clock
        self._streams = streams
        self._counters = counters
        self._effects: list[Effect] = []
        self._waiters: dict[int, _Waiter] = {}
        self._token = 0
        self._work = trio.Event()
        self._grace_until = -math.inf

    # What happens ------------------------------------------------------------------------

    def receive(self, event: Event) -> None:
        """Tell the claim machine; the effects leave with the next turn, which comes soon."""
        self._receive(event)
        self._work.set()

    def _receive(self, event: Event) -> None:
        self._effects += self.claims.receive(event, self._clock.now())

    def stored(self, key: SessionKey, pin: Pin) -> None:
        """The table was written without a claim: tell all peers with the next turn."""
        self._effects.append(Stored(key, pin))
        self._work.set()

    def wake(self) -> None:
        """There may be something to send."""
        self._work.set()

    def opened(self, peer: NodeName) -> None:
        """There is a new stream to `peer`."""
        self.receive(PeerConnected(peer))
        self.replication.opened(peer)

    def closed(self, peer: NodeName) -> None:
        """There is no stream to `peer` any more."""
        self.receive(PeerLost(peer))
        self.replication.closed(peer)

    def hear(self, peer: NodeName, messages: Iterable[PinWord]) -> None:
        """A frame of the present stream of `peer`; what follows from it leaves at once."""
        for message in messages:
            self._hear(peer, message)
        self._turn()

    def _hear(self, peer: NodeName, message: PinWord) -> None:
        match message:
            case Delta():
                self._note(peer, message)
                self._receive(PeerMessage(peer, message))
                self.replication.merged(peer, message)
            case DeltaAck():
                self.replication.acked(peer, message)
            case PullRequest():
                self.replication.asked(peer, message)
            case PullChunk():
                self._receive(PeerMessage(peer, message))
                now = trio.current_time()
                for name, mark in self.replication.chunk_merged(peer, message, now):
                    self._receive(PeerMessage(name, mark))
            case ViewMark() if self.replication.hold_back(peer, message):
                """It comes back with the end of a pull."""
            case _:
                self._receive(PeerMessage(peer, message))

    def _note(self, teller: NodeName, delta: Delta) -> None:
        now = self._clock.now()
        for record in delta.pins:
            self.history.note(record.key, record, teller=teller, now=now)

    # Claims ------------------------------------------------------------------------------

    async def claim(self, proposal: Proposal) -> Pin:
        """See `StickTable.claim`."""
        self._token += 1
        token, waiter = self._token, _Waiter()
        self._waiters[token] = waiter
        try:
            self.receive(ClaimStarted(token, proposal))
            await waiter.done.wait()
        finally:
            del self._waiters[token]
        assert waiter.pin is not None
        return waiter.pin

    def _done(self, effect: ClaimDone) -> None:
        self._counters.claims[effect.outcome.value] += 1
        waiter = self._waiters.get(effect.token)
        if waiter is not None:  # else its client has gone
            waiter.pin = effect.pin
            waiter.done.set()

    # Turns -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            deadline = self._deadline()
            with trio.move_on_at(deadline):
                await self._work.wait()
            self._work = trio.Event()
            self._allow_for_lag(deadline)
            self._turn()

    def _deadline(self) -> float:
        due = self.claims.next_deadline()
        return math.inf if due is None else max(self._clock.monotonic(due), self._grace_until)

    def _allow_for_lag(self, deadline: float) -> None:
        """Nobody was silent while this process could not listen: read first, then judge."""
        now = trio.current_time()
        late_s = now - deadline
        if late_s > LATE_S:
            self._grace_until = now + min(late_s, GRACE_S_MAX)

    def _turn(self) -> None:
        now = self._clock.now()
        if self._deadline() <= trio.current_time():
            self._effects += self.claims.handle_timer(now)
        self.replication.give_up_stalled(trio.current_time())
        self._emit(now)
        while self._effects:
            self._emit(now)
        if self.replication.serve_pulls(table_now=now):
            self._work.set()
        self._streams.flush()

    def _emit(self, now: float) -> None:
        """Commit, then let out; what that leads to is left for another round."""
        effects, self._effects = self._effects, []
        self._store.commit()
        sends: list[Send] = []
        for effect in effects:
            match effect:
                case Send():
                    sends.append(effect)
                case Stored(key, pin):
                    self.history.note(key, pin, teller=self._name, now=now)
                    self.replication.append(key, pin)
                case ClaimDone():
                    self._done(effect)
        # The log first: a mark must not overtake the pins that were confirmed before it.
        fed = self.replication.flush(self._streams.peers(), table_now=now)
        for send in sends:
            self._streams.send(send.peer, send.message)
        for peer in fed:
            self._effects += self.claims.receive(PeerFed(peer), now)
