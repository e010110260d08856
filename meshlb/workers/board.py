"""The board: a few numbers in memory that a member and its workers share.

Owns where each number stands. What is written here is seen by all of them at once, without a
message and without a lock, for each number has one writer:

- how often the member has written its store, and whether it still can: so a worker knows when what
  it has read may be old, before anybody is answered by what is new;
- how many clients each worker has: so that who has fewer lets the next one in;
- how many connections each worker has to each backend, and how many other nodes have: so every
  process can weigh the sum, exactly as it stands.

Numbers are aligned and written whole, so nobody reads half of one. Must not know pools' settings.
"""

import mmap
import os
from collections.abc import Mapping
from typing import Final, Self

from meshlb.model import BackendName, PoolName

WORKERS_MAX: Final = 256
BACKENDS_MAX: Final = 4_096
"""Backends with a place on the board; those of others are counted by each worker alone."""

ELSEWHERE: Final = 0
"""The row of the connections of other nodes; each worker has the row of its number, from 1, and the
member, who serves datagrams, the one behind them."""

_ROWS: Final = WORKERS_MAX + 2
_HEADER_BYTES: Final = 4_096
_CELL_BYTES: Final = 4
_BOARD_BYTES: Final = _HEADER_BYTES + BACKENDS_MAX * _ROWS * _CELL_BYTES
"""Four megabytes of address space; what is never written takes no memory."""

_CHANGES, _DEGRADED, _CLIENTS = range(3)
"""Behind the last: the clients of each worker, by its number."""

VACANT: Final = 1 << 62
"""The clients of a worker that lets nobody in: nobody leaves anything to it."""

BackendId = tuple[PoolName, BackendName]


class Board:
    """One process's view; the member makes the board, its workers get the descriptor."""

    def __init__(self, fd: int) -> None:
        """Map the board behind `fd`, which stays the caller's."""
        self.fd = fd
        self._map = mmap.mmap(fd, _BOARD_BYTES)
        whole = memoryview(self._map)
        self._numbers = whole[:_HEADER_BYTES].cast("Q")
        self._cells = whole[_HEADER_BYTES:].cast("i")

    @classmethod
    def make(cls) -> Self:
        """A new one, all zeros; `close` gives back its descriptor."""
        fd = os.memfd_create("meshlb-board")
        os.ftruncate(fd, _BOARD_BYTES)
        board = cls(fd)
        for worker in range(WORKERS_MAX + 1):
            board.set_clients(worker, VACANT)
        return board

    def close(self) -> None:
        """Unmap, and close the descriptor."""
        self._numbers.release()
        self._cells.release()
        os.close(self.fd)

    # The store ---------------------------------------------------------------------------

    def changes(self) -> int:
        """How often the store was written."""
        return self._numbers[_CHANGES]

    def note_write(self, committed: bool) -> None:
        """The member has written its store, or could not."""
        if committed:
            self._numbers[_CHANGES] += 1
        else:
            self._numbers[_DEGRADED] = 1

    @property
    def is_degraded(self) -> bool:
        """Whether some pins are in the member's memory alone, so that reading is not enough."""
        return self._numbers[_DEGRADED] != 0

    def set_degraded(self, degraded: bool) -> None:
        """Some pins are in memory alone, or none any longer."""
        self._numbers[_DEGRADED] = degraded

    # Clients -----------------------------------------------------------------------------

    def set_clients(self, worker: int, clients: int) -> None:
        """So many clients does a worker have; `VACANT`: it lets nobody in."""
        self._numbers[_CLIENTS + worker] = clients

    def least_clients(self, workers: int) -> int:
        """How many the one of `workers` has that has the fewest."""
        first = _CLIENTS + 1
        return min(self._numbers[first : first + workers])

    # Connections -------------------------------------------------------------------------

    def occupancy(self, place: int, *, worker: int, workers: int) -> "SharedOccupancy":
        """What is counted together of the backend at `place`, written as `worker`.

        The member is `workers + 1`.
        """
        assert 0 <= place < BACKENDS_MAX
        assert workers <= WORKERS_MAX
        return SharedOccupancy(self._cells, place * _ROWS, worker=worker, workers=workers)

    def set_elsewhere(self, place: int, connections: int) -> None:
        """So many connections do other nodes have to the backend at `place`."""
        self._cells[place * _ROWS + ELSEWHERE] = connections

    def clear(self, worker: int, places: Mapping[BackendId, int]) -> None:
        """A worker is gone, and its clients and connections are."""
        self.set_clients(worker, VACANT)
        for place in places.values():
            self._cells[place * _ROWS + worker] = 0


class SharedOccupancy:
    """The connections to one backend; implements `meshlb.proxy.backend.Occupancy`."""

    __slots__ = ("_cells", "_end", "_here", "_mine", "_own", "_start")

    def __init__(self, cells: memoryview, start: int, *, worker: int, workers: int) -> None:
        """`worker`: whose number `change` changes."""
        self._cells = cells
        self._start = start
        self._here = start + 1
        self._end = start + workers + 2
        self._mine = start + worker
        self._own = 0

    def change(self, by: int) -> None:
        """So many more are this worker's."""
        self._own += by
        self._cells[self._mine] = self._own

    def here(self) -> int:
        """Those of all processes of this node."""
        return sum(self._cells[self._here : self._end])

    def everywhere(self) -> int:
        """Those of all nodes, as far as they are known."""
        return sum(self._cells[self._start : self._end])


class Places:
    """Which backend has which place; a place is never given to another backend."""

    def __init__(self) -> None:
        self.all: dict[BackendId, int] = {}

    def of(self, pool: PoolName, backend: BackendName) -> int | None:
        """The place of a backend, a new one if need be; None where the board is full."""
        place = self.all.get((pool, backend))
        if place is None and len(self.all) < BACKENDS_MAX:
            place = self.all[pool, backend] = len(self.all)
        return place
