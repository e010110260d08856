"""The claim machine on its feet: the loop that takes its turns, and the callers that wait.

Owns the task that takes a turn whenever something has happened or is due, and those who wait for
their claims. The turn comes with the next pass of the event loop, so that all that is ready in one
pass is done in one turn; what a turn does is `turns`. Must not know membership, sockets or the
proxy.

Spec: protocol/spec/pins.md.
"""

from collections.abc import Callable, Collection

import trio

from meshlb.cluster.clock import TableClock
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.surroundings import BulkStore
from meshlb.cluster.turns import Streams, TableStore, Turns
from meshlb.core.sticky.events import ClaimDone, ClaimStarted
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.model import BootId, NodeName


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
        self._clock = clock
        self.counters = counters
        self._waiting: dict[int, Callable[[Pin], None]] = {}
        self._token = 0
        self._work = trio.Event()

    def claim_soon(self, proposal: Proposal, on_done: Callable[[Pin], None]) -> None:
        """Claim; `on_done` is called at the end of a turn, and must not raise."""
        self._token += 1
        self._waiting[self._token] = on_done
        self.turns.receive(ClaimStarted(self._token, proposal))

    def _done(self, effect: ClaimDone) -> None:
        self.counters.claims[effect.outcome.value] += 1
        self._waiting.pop(effect.token)(effect.pin)

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            deadline = self.turns.next_deadline()
            with trio.move_on_at(self._clock.monotonic(deadline)):
                await self._work.wait()
            self._work = trio.Event()
            self.turns.allow_for_lag(deadline)
            self.turns.take()

    def _wake(self) -> None:
        self._work.set()
