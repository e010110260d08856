"""What a worker knows of the health of its backends: what it is told.

Owns nothing but the way of a doubt to the member, which probes.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final

import trio

from meshlb.errors import WorkerError
from meshlb.proxy.backend import Backend
from meshlb.proxy.pool import Pool
from meshlb.workers.messages import Doubt, Message

DOUBT_EVERY_S: Final = 0.1
"""A storm of failing connects is one doubt in this time."""


class Hearsay:
    """Implements `meshlb.proxy.probing.Probing`."""

    def __init__(self, pools: Iterable[Pool], put: Callable[[Message], None]) -> None:
        """Of these pools; `put` sends to the member."""
        self._put = put
        self._pools: dict[Backend, str] = {}
        self._doubted_at: dict[Backend, float] = {}
        self.follow(pools)

    async def run(self) -> None:
        """There is nothing to do."""
        await trio.sleep_forever()

    async def wait_first_round(self) -> None:
        """The member lets nobody in before it has probed all of them."""
        await trio.lowlevel.checkpoint()

    def doubt(self, backend: Backend) -> None:
        """Tell the member, unless it was told just now."""
        now, pool = trio.current_time(), self._pools.get(backend)
        if pool is None or now < self._doubted_at.get(backend, -math.inf) + DOUBT_EVERY_S:
            return
        self._doubted_at[backend] = now
        try:
            self._put(Doubt(pool, backend.name))
        except WorkerError:
            return  # It probes anyway, a little later.

    async def look_at_new(self, pools: Iterable[Pool]) -> None:
        """Their states come with the settings."""
        await trio.lowlevel.checkpoint()

    def follow(self, pools: Iterable[Pool]) -> None:
        """These are the backends from now on."""
        self._pools = {b: pool.name for pool in pools for b in pool.backends.values()}
        self._doubted_at = {b: at for b, at in self._doubted_at.items() if b in self._pools}
