"""What a node turns to its clients: the data plane of this process, or that and its workers.

Owns the difference, so that nobody else in the node has to know it.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from socket import socket

import structlog
import trio

from meshlb.admin.view import WorkerView
from meshlb.config.schema import Settings
from meshlb.core.sticky.closed_table import ClosedTable
from meshlb.core.sticky.table import StickTable
from meshlb.errors import HandOverError
from meshlb.model import Address, PoolName
from meshlb.net.parcels import ParcelService
from meshlb.proxy import handover, moving
from meshlb.proxy.change import Change
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.kernel_relay import RelayChoice
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.pool import Pool
from meshlb.store import LmdbPins
from meshlb.workers.board import WORKERS_MAX, BackendId
from meshlb.workers.crew import Crew
from meshlb.workers.tally import WorkerTally, total

log = structlog.get_logger()


def workers_wanted(settings: Settings) -> int:
    """How many processes besides the member serve the clients of a node."""
    wanted = settings.node.workers
    return min(len(os.sched_getaffinity(0)), WORKERS_MAX) if wanted == "auto" else wanted


class Front:
    """One per process of a node.

    Attributes:
        resting: it begins nothing, for another process is about to take over.
    """

    def __init__(self, plane: DataPlane, crew: Crew | None) -> None:
        """`crew`: None where this process serves the clients itself."""
        self._plane = plane
        self._crew = crew
        self.resting = False

    async def run(
        self,
        *,
        may_listen: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; `started` once all addresses are bound. See `DataPlane.run`."""
        crew = self._crew
        if crew is None:
            await self._plane.run(may_listen=may_listen, task_status=task_status)
            return
        gate = trio.Event()

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            await self._plane.run(may_listen=gate, task_status=task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            nursery.start_soon(crew.run, self._plane)
            task_status.started()
            await may_listen.wait()
            await crew.ready.wait()
            gate.set()
            await self._plane.accepting.wait()
            crew.open()

    async def wait_accepting(self) -> None:
        """Return once clients are let in, by every process that serves them."""
        await self._plane.accepting.wait()
        if self._crew is not None:
            await self._crew.accepting.wait()

    @property
    def accepting(self) -> bool:
        """Whether clients are let in."""
        return self._plane.accepting.is_set() and (
            self._crew is None or self._crew.accepting.is_set()
        )

    @property
    def draining(self) -> bool:
        """Whether nobody new is let in any more."""
        return self._plane.draining

    @property
    def pools(self) -> Mapping[PoolName, Pool]:
        """As this process sees them: their states hold for all."""
        return self._plane.pools

    @property
    def addresses(self) -> dict[str, Address]:
        """Where clients reach the listeners, by name."""
        return self._plane.addresses

    @property
    def relay_choice(self) -> RelayChoice:
        """Whether tunnels are relayed in the kernel: what this process can, its workers can."""
        return self._plane.relay_choice

    @property
    def counters(self) -> ProxyCounters:
        """What all processes have counted."""
        return self._tally().proxy

    @property
    def tunnels(self) -> int:
        """Tunnels open now."""
        return self._tally().tunnels

    @property
    def upstreams(self) -> int:
        """Connections to backends, in use or waiting for a request."""
        in_use = (b.in_use for pool in self.pools.values() for b in pool.backends.values())
        return self._tally().idle_upstreams + sum(in_use)

    def connections(self) -> dict[BackendId, int]:
        """Exchanges and tunnels of this node, by backend."""
        return {
            (pool.name, backend.name): backend.in_use
            for pool in self.pools.values()
            for backend in pool.backends.values()
        }

    def set_elsewhere(self, backend: BackendId, connections: int) -> None:
        """So many connections do the other nodes have to a backend."""
        pool = self.pools.get(backend[0])
        known = None if pool is None else pool.backends.get(backend[1])
        if known is not None:
            known.elsewhere = connections
            if self._crew is not None:
                self._crew.set_elsewhere(backend, connections)

    @property
    def words_dropped(self) -> int:
        """What workers could not tell this process, because too much waited."""
        tally = self._tally()
        return tally.claims_refused + tally.words_dropped

    def _tally(self) -> WorkerTally:
        """Of this process, and of its workers."""
        own = WorkerTally(
            self._plane.counters,
            tunnels=len(self._plane.tunnels),
            idle_upstreams=sum(
                len(backend.idle)
                for pool in self.pools.values()
                for backend in pool.backends.values()
            ),
        )
        return own if self._crew is None else total([own, self._crew.tally()])

    @property
    def workers(self) -> tuple[WorkerView, ...]:
        """The processes that serve clients, where this one does not."""
        if self._crew is None:
            return ()
        return tuple(
            WorkerView(
                number=post.number,
                pid=post.pid,
                accepting=post.is_accepting,
                connections=sum(t.connections for t in post.tally.proxy.listeners.values()),
                tunnels=post.tally.tunnels,
                restarts=post.restarts,
            )
            for post in self._crew.posts
        )

    async def caught_up(self) -> None:
        """Return once all processes go by the states that this one knows; bounded."""
        if self._crew is not None:
            await self._crew.caught_up()

    def use_secrets(self, *, cookie_secrets: tuple[bytes, ...], key_secret: bytes) -> None:
        """Seal, open and hash with other secrets from now on, in all processes."""
        self._plane.use_secrets(cookie_secrets=cookie_secrets, key_secret=key_secret)
        if self._crew is not None:
            self._crew.use_secrets(cookie_secrets=cookie_secrets, key_secret=key_secret)

    async def prepare(self, settings: Settings) -> Change:
        """See `DataPlane.prepare`."""
        return await self._plane.prepare(settings)

    def commit(self, change: Change) -> None:
        """Put a change in place, see `DataPlane.commit`; `caught_up` waits for all processes."""
        self._plane.commit(change)
        if self._crew is not None:
            self._crew.change()

    # Another process takes over ----------------------------------------------------------

    @property
    def hands(self) -> int:
        """How many processes serve the clients."""
        return 1 if self._crew is None else self._crew.size

    @property
    def sockets(self) -> dict[str, socket]:
        """Of the listeners, see `DataPlane.sockets`."""
        return self._plane.sockets

    async def pause(self, *, timeout_s: float) -> None:
        """Begin nothing more; nobody uses the stick table and its store once this returns.

        Who waits for a decision still after `timeout_s` is cut off.
        """
        self.resting = True
        await handover.pause(self._plane, timeout_s=timeout_s)
        if self._crew is not None:
            await self._crew.pause(timeout_s=timeout_s)
        self._plane.use_table(ClosedTable(), trio.current_time)

    def hush(self) -> None:
        """The store is about to be closed, whatever has become of its users."""
        if self._crew is not None:
            self._crew.hush()

    def use(self, store: LmdbPins, table: StickTable, table_now: Callable[[], float]) -> None:
        """After `pause`: these are the table and its store from `resume` on."""
        self._plane.use_table(table, table_now)
        if self._crew is not None:
            self._crew.use(store=store, table=table, table_now=table_now)

    def resume(self) -> None:
        """Go on after `pause` with who is left, if it was paused."""
        if self.resting:
            self.resting = False
            handover.resume(self._plane)
            if self._crew is not None:
                self._crew.resume()

    async def give(self, lines: Sequence[socket], *, timeout_s: float) -> list[str]:
        """Give all connections away, after `pause`; what has hindered that.

        Args:
            lines: ends of lines to those who take them, at least one for each of `hands`.
            timeout_s: how long exchanges may take to end.
        """
        if self._crew is not None:
            return await self._crew.give(lines, timeout_s=timeout_s)
        try:
            await moving.give(self._plane, map(ParcelService, lines), timeout_s=timeout_s)
        except HandOverError as error:
            return [str(error)]
        return []

    async def take(self, number: int, line: socket) -> None:
        """Go on with the connections that come over a line; `hands` take turns by `number`."""
        if self._crew is None:
            await moving.take(self._plane, ParcelService(line))
        else:
            self._crew.take(number, line)

    async def drain(self, *, timeout_s: float) -> None:
        """Accept nobody new; return when all clients have gone, or have been sent away."""
        if self._crew is None:
            await self._plane.drain(timeout_s=timeout_s)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self._plane.drain, timeout_s=timeout_s))
            # This process closes its sockets first, so those who wait are let in by workers.
            while not self._plane.draining:
                await trio.lowlevel.checkpoint()
            await self._crew.drain(timeout_s=timeout_s)
