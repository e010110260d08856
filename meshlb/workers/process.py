"""A worker: a data plane that is told everything by its member, and ends when that ends.

Owns the life of the process:

    Setup         the table's view, the data plane with the member's sockets
    → Ready       and it waits: the table may not be in sync yet
    Open          it lets clients in
    → Accepting
    Pause         it begins nothing more, and reads the store no longer
    → Obeyed
    Give          its connections go to workers of another program, see `proxy.moving`
    → Obeyed
    Resume        they do not, and it goes on
    Drain         it sends its clients away and ends
    end of file   the member is gone, and so is the worker, at once

Health, operators' words, settings and secrets come from the member; claims, doubts and counts go to
it. Signals are for the member, which a terminal or a supervisor may send to all of them.
"""

import os
import socket
import time
from pathlib import Path
from typing import Final

import structlog
import trio

from meshlb.config.schema import BackendSettings, ListenerSettings
from meshlb.core.sticky.closed_table import ClosedTable
from meshlb.errors import HandOverError, ListenError, WorkerError, WorkerGoneError
from meshlb.model import PoolName
from meshlb.net.parcels import ParcelService
from meshlb.net.reactor import Reactor
from meshlb.proxy import handover, moving
from meshlb.proxy.backend import Backend
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.role import Role
from meshlb.store.reading import PinReader
from meshlb.workers.board import Board
from meshlb.workers.channel import Channel
from meshlb.workers.hearsay import Hearsay
from meshlb.workers.messages import (
    Accepting,
    Answer,
    Change,
    Drain,
    Give,
    Loaded,
    Message,
    Obeyed,
    Open,
    Pause,
    Ready,
    Resume,
    Secrets,
    Seen,
    Setup,
    States,
    Take,
    Tally,
    backend_state,
    unpack_places,
    unpack_settings,
)
from meshlb.workers.share import Share
from meshlb.workers.table import WorkerTable
from meshlb.workers.tally import WorkerTally, pack_tally

TALLY_EVERY_S: Final = 0.1
"""How old the numbers are that the member shows; connections to backends are exact, see `board`."""

TALLY_ANYWAY_S: Final = 1.0
"""A worker with nothing new to tell says so: it is alive."""

ACCEPTS_PER_EVENT_MAX: Final = 1
"""Clients that it lets in before it looks at the others again; the rest are for other workers."""

log = structlog.get_logger()


async def serve(sock: socket.socket) -> None:
    """Be a worker of the member at the other end of `sock`, until told to end, or left alone."""
    channel = Channel(sock, takes_fds=True)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.send_all)
            channel.put(Loaded())
            setup, *early = await channel.receive()
            if not isinstance(setup, Setup):
                raise WorkerError("a worker is set up first")
            structlog.contextvars.bind_contextvars(worker=setup.number)
            worker = Worker(channel, setup)
            try:
                await worker.run(early)
            finally:
                worker.close()
            nursery.cancel_scope.cancel()
    except* WorkerGoneError:
        pass  # The member has ended, and has said why.
    finally:
        channel.close()


class Worker:
    """One per process."""

    def __init__(self, channel: Channel, setup: Setup) -> None:
        """Build everything; `run` begins to work."""
        board_fd, *fds = channel.take_fds(1 + len(setup.listeners))
        self._channel = channel
        self._setup = setup
        self._board = Board(board_fd)
        self._given = dict(zip(setup.listeners, map(_socket_of, fds), strict=True))
        self._places = unpack_places(setup.places)
        self._tally = WorkerTally()
        self._table = self._open_table(setup.directory, setup.clock_ahead_s)
        self._reactor = Reactor()
        self._share = Share(
            self._board,
            worker=setup.number,
            workers=setup.workers,
            clients=self._clients,
        )
        self._plane = DataPlane(
            unpack_settings(setup.settings),
            self._table,
            reactor=self._reactor,
            table_now=self._now,
            cookie_secrets=tuple(setup.cookie_secrets),
            key_secret=setup.key_secret,
            sockets=self._take_given(),
            role=Role(
                accepts_max=ACCEPTS_PER_EVENT_MAX,
                turn=self._share,
                probing=lambda pools: Hearsay(pools, channel.put),
                make_backend=self._make_backend,
                bind=self._bind,
            ),
        )
        self._tally.proxy = self._plane.counters
        self._may_listen = trio.Event()

    def _open_table(self, directory: str, clock_ahead_s: float) -> WorkerTable:
        self._ahead_s = clock_ahead_s + time.perf_counter() - trio.current_time()
        self._reader = PinReader(Path(directory), changes=self._board.changes)
        return WorkerTable(
            self._reader,
            self._channel.put,
            waiting_bytes=lambda: self._channel.outbox_bytes,
            now=self._now,
            is_degraded=lambda: self._board.is_degraded,
            is_strict=self._setup.is_strict,
            tally=self._tally,
        )

    def _now(self) -> float:
        """Table time."""
        return trio.current_time() + self._ahead_s

    def close(self) -> None:
        """Close what is not the data plane's own."""
        self._reactor.close()
        self._reader.close()
        self._board.close()
        for sock in self._given.values():
            sock.close()

    def _clients(self) -> int:
        listeners = self._plane.counters.listeners.values()
        return sum(tally.connections for tally in listeners) + len(self._plane.tunnels)

    def _take_given(self) -> dict[str, socket.socket]:
        given, self._given = self._given, {}
        return given

    def _bind(self, listener: ListenerSettings) -> socket.socket:
        sock = self._given.pop(listener.name, None)
        if sock is None:
            raise ListenError(f"the member has no socket for {listener.bind}")
        return sock

    def _make_backend(self, pool: PoolName, settings: BackendSettings) -> Backend:
        place = self._places.get((pool, settings.name))
        if place is None:
            return Backend(settings)
        occupancy = self._board.occupancy(
            place, worker=self._setup.number, workers=self._setup.workers
        )
        return Backend(settings, occupancy=occupancy)

    async def run(self, early: list[Message]) -> None:
        """Serve until told to end.

        Raises:
            WorkerError: the member is gone, or makes no sense.
        """

        async def serve_clients(*, task_status: trio.TaskStatus[None]) -> None:
            await self._plane.run(may_listen=self._may_listen, task_status=task_status)

        async with trio.open_nursery() as nursery:
            self._nursery = self._share.nursery = nursery
            nursery.start_soon(self._reactor.run)
            await nursery.start(serve_clients)
            self._channel.put(Ready())
            nursery.start_soon(self._say_when_open)
            nursery.start_soon(self._tell_counts)
            messages = early
            while True:
                for message in messages:
                    if isinstance(message, Drain):
                        await self._drain(message.timeout_s)
                        nursery.cancel_scope.cancel()
                        return
                    await self._hear(message)
                messages = await self._channel.receive()

    async def _hear(self, message: Message) -> None:
        match message:
            case Answer():
                self._table.answered(message)
            case States(serial, backends):
                self._take_states(backends)
                self._channel.put(Seen(serial))
            case Secrets(cookie_secrets, key_secret):
                self._plane.use_secrets(cookie_secrets=tuple(cookie_secrets), key_secret=key_secret)
            case Open():
                self._may_listen.set()
            case Change():
                await self._change(message)
            case Pause(timeout_s):
                self._nursery.start_soon(self._pause, timeout_s)
            case Give(lines, timeout_s):
                self._nursery.start_soon(self._give, self._take_lines(lines), timeout_s)
            case Resume(directory, clock_ahead_s):
                self._resume(directory, clock_ahead_s)
            case Take():
                (line,) = self._take_lines(1)
                self._nursery.start_soon(moving.take, self._plane, line)
            case _:
                raise WorkerError(f"a member does not say {type(message).__name__}")

    def _take_states(self, backends: list[list[object]]) -> None:
        for packed in backends:
            (pool, name), healthy, ordered = backend_state(packed)
            known = self._plane.pools.get(pool)
            backend = known.backends.get(name) if known is not None else None
            if backend is not None:
                backend.set_healthy(healthy)
                backend.order(ordered)

    async def _change(self, change: Change) -> None:
        sockets = map(_socket_of, self._channel.take_fds(len(change.listeners)))
        self._given = dict(zip(change.listeners, sockets, strict=True))
        self._places = unpack_places(change.places)
        await self._plane.apply(unpack_settings(change.settings))
        self._take_states(change.backends)
        for sock in self._take_given().values():
            sock.close()  # The plane had it already.
        self._channel.put(Seen(change.serial))

    async def _pause(self, timeout_s: float) -> None:
        await handover.pause(self._plane, timeout_s=timeout_s)
        self._plane.use_table(ClosedTable(), self._now)
        self._channel.put(Obeyed(""))

    async def _give(self, lines: list[ParcelService], timeout_s: float) -> None:
        fault = ""
        try:
            await moving.give(self._plane, lines, timeout_s=timeout_s)
        except HandOverError as error:
            fault = str(error)
        self._channel.put(Obeyed(fault))

    def _take_lines(self, count: int) -> list[ParcelService]:
        return [ParcelService(_socket_of(fd)) for fd in self._channel.take_fds(count)]

    def _resume(self, directory: str, clock_ahead_s: float) -> None:
        self._reader.close()
        self._table = self._open_table(directory, clock_ahead_s)
        self._plane.use_table(self._table, self._now)
        handover.resume(self._plane)

    async def _say_when_open(self) -> None:
        await self._plane.accepting.wait()
        self._share.show()
        self._channel.put(Accepting())

    async def _tell_counts(self) -> None:
        told, told_at = None, trio.current_time()
        while True:
            if self._plane.accepting.is_set() and not self._plane.draining:
                self._share.show()
            self._tally.tunnels = len(self._plane.tunnels)
            self._tally.idle_upstreams = sum(
                len(backend.idle)
                for pool in self._plane.pools.values()
                for backend in pool.backends.values()
            )
            counts, now = pack_tally(self._tally), trio.current_time()
            if counts != told or now >= told_at + TALLY_ANYWAY_S:
                told, told_at = counts, now
                self._channel.put(Tally(counts))
            await trio.sleep(TALLY_EVERY_S)

    async def _drain(self, timeout_s: float) -> None:
        async with trio.open_nursery() as nursery:
            # Claims of the requests in progress are still answered.
            nursery.start_soon(self._keep_listening)
            await self._plane.drain(timeout_s=timeout_s)
            nursery.cancel_scope.cancel()

    async def _keep_listening(self) -> None:
        while True:
            for message in await self._channel.receive():
                if not isinstance(message, Drain):
                    await self._hear(message)


def _socket_of(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    os.set_blocking(fd, False)
    return sock
