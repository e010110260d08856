"""The claim machine on its feet: the loop that takes its turns, and the callers that wait.

Owns when a turn is taken, and those who wait for their claims. The turn comes behind the events
that the reactor is handling, or is woken for, so that all that is ready in one pass is done in one
turn; a task takes those that are due because time has passed. What a turn does is `turns`. Must not
know membership, sockets or the proxy.

Spec: protocol/spec/pins.md.
"""

import math
from collections.abc import Callable, Collection

import trio

from meshlb.cluster.clock import TableClock
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.surroundings import BulkStore, Streams, TableStore
from meshlb.cluster.turns import Turns
from meshlb.core.sticky.events import ClaimDone, ClaimStarted
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.model import BootId, NodeName
from meshlb.net.reactor import Reactor


class NoStreams:
    """The streams of a node that stands alone."""

    def send(self, peer: NodeName, message: object) -> None:
        """Nobody is there."""

    def takes_more(self, peer: NodeName) -> bool:
        """Nobody is there."""
        return False

    def peers(self) -> Collection[NodeName]:
        """Nobody is there."""
        return ()

    def flush(self) -> None:
        """Nobody is there."""


class PinAgent:
    """One per node; `turns` is what it drives."""

    def __init__(
        self,
        *,
        name: NodeName,
        boot_id: BootId,
        store: TableStore,
        bulk: BulkStore | None = None,
        clock: TableClock,
        streams: Streams,
        counters: MeshCounters,
        reactor: Reactor,
    ) -> None:
        self.turns = Turns(
            name=name,
            log=ReplicationLog(boot_id),
            store=store,
            bulk=bulk,
            streams=streams,
            counters=counters,
            now=clock.now,
            on_work=self._wake,
            on_done=self._done,
        )
        self._store = store
        self._clock = clock
        self.counters = counters
        self._waiting: dict[int, Callable[[Pin], None]] = {}
        self._token = 0
        self._reactor = reactor
        self._is_coming = False
        self._due_at = -math.inf
        """When the task is going to take a turn, in table time."""
        self._asleep: trio.CancelScope | None = None

    def claim_soon(self, proposal: Proposal, on_done: Callable[[Pin], None]) -> None:
        """Claim; `on_done` is called at the end of a turn, and must not raise."""
        self._token += 1
        self._waiting[self._token] = on_done
        self.turns.receive(ClaimStarted(self._token, proposal))

    def commit(self) -> None:
        """Have on the disk what was written so far: somebody is about to be told of it."""
        self._store.commit()

    def _done(self, effect: ClaimDone) -> None:
        self.counters.claims[effect.outcome.value] += 1
        self._waiting.pop(effect.token)(effect.pin)

    async def run(self) -> None:
        """Take the turns that are due, until cancelled; the reactor takes all others."""
        while True:
            self._due_at = self.turns.next_deadline()
            with trio.CancelScope(deadline=self._clock.monotonic(self._due_at)) as self._asleep:
                await trio.sleep_forever()
            self._take()

    def _wake(self) -> None:
        if not self._is_coming:
            self._is_coming = True
            self._reactor.behind(self._take)

    def _take(self) -> None:
        self._is_coming = False
        self.turns.allow_for_lag(self._due_at)
        self.turns.take()
        due_at = self.turns.next_deadline()
        if due_at < self._due_at and self._asleep is not None:
            self._due_at = due_at
            self._asleep.deadline = self._clock.monotonic(due_at)
