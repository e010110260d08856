"""A worker's share of the newcomers: who has more clients than others lets those go first.

Owns the rule. All workers accept at one socket, and whichever runs at the moment would take a whole
burst of clients before another one has even woken. So a worker that is ahead steps aside for a
moment. Afterwards it takes some in any case, and more each time that nobody else has taken any: the
others may be stuck, and no client shall wait for them. Counts are on the board; must not know
sockets.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from meshlb.workers.board import Board

AHEAD_MAX: Final = 2
"""Clients that a worker may have more than another one before it steps aside."""

ASIDE_S: Final = 0.01
"""How long it does: enough for a process to be woken and run, and little for a client to wait."""

IN_ANY_CASE_MAX: Final = 64
"""The most newcomers that it takes after that, whatever the others have; it begins with one."""


class Share:
    """Implements `meshlb.proxy.door.Turn`; one per worker."""

    def __init__(
        self, board: Board, *, worker: int, workers: int, clients: Callable[[], int]
    ) -> None:
        """Wire; `clients` counts those of this worker. `nursery` has to be set before any come."""
        self._board = board
        self._worker = worker
        self._workers = workers
        self._clients = clients
        self._in_any_case, self._allowance, self._least = 0, 1, 0
        self.nursery: trio.Nursery | None = None

    def show(self) -> int:
        """Write how many clients this worker has."""
        clients = self._clients()
        self._board.set_clients(self._worker, clients)
        return clients

    def yields(self) -> bool:
        """Whether another worker shall let the next client in."""
        clients = self.show()
        if self._in_any_case:
            self._in_any_case -= 1
            return False
        least = self._board.least_clients(self._workers)
        if clients <= least + AHEAD_MAX:
            return False
        others_took_some = least > self._least
        self._allowance = 1 if others_took_some else min(2 * self._allowance, IN_ANY_CASE_MAX)
        self._least = least
        return True

    def later(self, resume: Callable[[], None]) -> None:
        """Call `resume` when the others had their chance."""
        assert self.nursery is not None
        self.nursery.start_soon(partial(self._wait, resume))

    async def _wait(self, resume: Callable[[], None]) -> None:
        await trio.sleep(ASIDE_S)
        self._in_any_case = self._allowance
        resume()
