"""The crew: the workers of a member, each at its post; who ends is replaced.

Owns the processes and what they are told. A worker's end is noticed at once, by the end of its
socket. The listening sockets stay open here and in the others, so nobody is refused meanwhile, and
its own clients are all that is lost. One that ends soon after its start, again and again, is
replaced after a pause that grows. One that says nothing for too long is ended.

The data plane of the member itself accepts nobody: it holds the sockets and probes the backends.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from socket import socket
from typing import Final

import structlog
import trio

from meshlb.config.schema import BackendSettings, Settings
from meshlb.core.sticky.table import StickTable
from meshlb.model import PoolName
from meshlb.proxy.backend import Backend
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.role import Role
from meshlb.store import LmdbPins
from meshlb.workers.board import BackendId, Board, Places
from meshlb.workers.messages import (
    Change,
    Drain,
    Give,
    Message,
    Open,
    Pause,
    Resume,
    Secrets,
    Setup,
    States,
    Take,
    pack_places,
    pack_settings,
)
from meshlb.workers.orders import obey
from meshlb.workers.post import TICK_S, Post
from meshlb.workers.reserve import Reserve
from meshlb.workers.tally import WorkerTally, total

LIVED_WELL_S: Final = 10.0
"""A worker that has lived for so long is replaced at once."""

PAUSE_S_MIN, PAUSE_S_MAX = 0.1, 30.0
"""How long after others that have not; doubled each time."""

CAUGHT_UP_S_MAX: Final = 1.0
"""How long an order waits for the word of all workers that they go by it."""

CAUGHT_UP_POLL_S: Final = 0.002

WATCH_S: Final = 0.1
"""How soon a store that can be written again is read again."""

DRAIN_GRACE_FRACTION: Final = 0.1
"""The part of the time of a drain that is left to workers for ending after it."""

log = structlog.get_logger()


class Crew:
    """One per member with workers.

    Attributes:
        ready: set once every worker is set up, or has failed.
        accepting: set once those that are let clients in.
        role: for the member's data plane.
        size: how many workers there are to be.
    """

    def __init__(
        self,
        count: int,
        *,
        store: LmdbPins,
        table: StickTable,
        table_now: Callable[[], float],
        is_strict: bool,
        reserve: Reserve,
    ) -> None:
        """Make the board; `run` starts the workers.

        Args:
            count: of workers.
            store: the pins that they read.
            table: the stick table, for what they ask.
            table_now: its clock.
            is_strict: whether sessions begin only once they are agreed on.
            reserve: of processes, some of which may be there already; the crew's from now on.
        """
        self.size = count
        self._store = store
        self._table = table
        self._table_now = table_now
        self._is_strict = is_strict
        self._board = Board.make()
        self._places = Places()
        self._posts = [Post(number) for number in range(1, count + 1)]
        self._ended = WorkerTally()
        self._plane: DataPlane | None = None
        self._secrets = Secrets([], b"")
        self._told: dict[tuple[str, str], list[object]] = {}
        self._serial = 0
        self._dirty = trio.Event()
        self._is_open = False
        self._reserve = reserve
        self._leaving = trio.Event()
        self._may_employ = trio.Event()
        self._may_employ.set()
        self.ready = trio.Event()
        self.accepting = trio.Event()
        self.role = Role(accepts_max=0, make_backend=self._make_backend)
        store.environment.on_write = self._board.note_write

    def _make_backend(self, pool: PoolName, settings: BackendSettings) -> Backend:
        place = self._places.of(pool, settings.name)
        if place is None:
            log.error("too many backends to count their connections", backend=settings.name)
            return Backend(settings, on_change=self._changed)
        occupancy = self._board.occupancy(place, worker=self.size + 1, workers=self.size)
        return Backend(settings, occupancy=occupancy, on_change=self._changed)

    def _changed(self) -> None:
        self._dirty.set()

    def set_elsewhere(self, backend: BackendId, connections: int) -> None:
        """So many connections do other nodes have to a backend; all workers weigh them too."""
        place = self._places.all.get(backend)
        if place is not None:
            self._board.set_elsewhere(place, connections)

    def use_secrets(self, *, cookie_secrets: tuple[bytes, ...], key_secret: bytes) -> None:
        """Have all workers seal, open and hash with these from now on."""
        self._secrets = Secrets(list(cookie_secrets), key_secret)
        self._tell(self._secrets)

    # What others ask ---------------------------------------------------------------------

    @property
    def posts(self) -> tuple[Post, ...]:
        """The workers, by number."""
        return tuple(self._posts)

    def tally(self) -> WorkerTally:
        """What all workers have counted, also those that have ended."""
        return total([self._ended, *(post.tally for post in self._posts)])

    async def caught_up(self) -> bool:
        """Return True once every worker goes by what it was told; False if that takes too long."""
        await self._say_states()
        serial = self._serial
        with trio.move_on_after(CAUGHT_UP_S_MAX):
            while any(post.is_ready and post.seen < serial for post in self._posts):  # noqa: ASYNC110 - words of many, one after another
                await trio.sleep(CAUGHT_UP_POLL_S)
            return True
        return False

    # Life --------------------------------------------------------------------------------

    async def run(self, plane: DataPlane) -> None:
        """Keep all posts until cancelled; `plane` is the member's, whose addresses are bound."""
        self._plane = plane
        try:
            async with trio.open_nursery() as nursery:
                for post in self._posts:
                    nursery.start_soon(self._keep, post)
                nursery.start_soon(self._watch_board)
                nursery.start_soon(self._watch_silence)
                nursery.start_soon(self._pass_states_on)
                for post in self._posts:
                    await post.tried.wait()
                self.ready.set()
                await self._reserve.keep()
        finally:
            self._store.environment.on_write = lambda committed: None
            self._board.close()
            await self._reserve.reap()

    def open(self) -> None:
        """Have all workers let clients in, also those that start later."""
        self._is_open = True
        self._tell(Open())

    def _note_accepting(self) -> None:
        if all(post.is_accepting for post in self._posts if post.is_ready):
            self.accepting.set()

    async def drain(self, *, timeout_s: float) -> None:
        """Have all workers send their clients away; return when they have, or have been ended."""
        self._leaving.set()
        self._may_employ.set()
        self._tell(Drain(timeout_s * (1 - DRAIN_GRACE_FRACTION)))
        with trio.move_on_after(timeout_s):
            for post in self._posts:
                await post.vacant.wait()
            return
        log.warning("workers did not end in time", workers=[p.number for p in self._posts if p.pid])
        for post in self._posts:
            post.kill()

    def change(self) -> None:
        """Have all workers serve by the settings that the member's data plane has got."""
        settings, names, fds = self._listeners()
        packed = pack_settings(settings)
        self._serial += 1
        states = list(self._states())
        self._told = {(str(s[0]), str(s[1])): s for s in states}
        places = pack_places(self._places.all)
        for post in self._posts:
            if post.is_ready:
                post.tell(Change(self._serial, packed, places, names, states), fds)

    # Another process takes over ----------------------------------------------------------

    async def pause(self, *, timeout_s: float) -> None:
        """Have all workers begin nothing more; who ends is not replaced before `resume`.

        Once this returns nobody uses the store and the table.
        """
        self._may_employ = trio.Event()
        await obey(dict.fromkeys(self._posts, (Pause(timeout_s), ())), timeout_s=timeout_s)
        self.hush()

    def hush(self) -> None:
        """Hear no worker about the table any more: its store is about to be closed."""
        for post in self._posts:
            post.hush()

    def use(self, *, store: LmdbPins, table: StickTable, table_now: Callable[[], float]) -> None:
        """After `pause`: go by these from `resume` on."""
        self._store, self._table, self._table_now = store, table, table_now
        store.environment.on_write = self._board.note_write

    def resume(self) -> None:
        """Have all workers go on with those whom they still have."""
        for post in self._posts:
            if post.desk is not None:
                post.desk.reopen(self._table, self._table_now)
        self._tell(Resume(str(self._store.environment.directory), self._clock_ahead_s()))
        self._may_employ.set()

    async def give(self, lines: Sequence[socket], *, timeout_s: float) -> list[str]:
        """Have all workers give their connections away; what has hindered some of them.

        Args:
            lines: each the end of one to a process that takes them; closed at the end.
            timeout_s: how long exchanges may take to end.
        """
        orders: dict[Post, tuple[Message, list[int]]] = {}
        for index, post in enumerate(self._posts):
            fds = [line.fileno() for line in lines[index :: self.size]]
            orders[post] = Give(len(fds), timeout_s), fds
        try:
            return await obey(orders, timeout_s=timeout_s)
        finally:
            for line in lines:
                line.close()

    def take(self, number: int, line: socket) -> None:
        """Have a worker go on with what comes over a line; they take turns by `number`."""
        with line:
            self._posts[number % self.size].tell(Take(), [line.fileno()])

    # One post ----------------------------------------------------------------------------

    async def _keep(self, post: Post) -> None:
        strikes = 0
        while await self._is_wanted():
            began_at = trio.current_time()
            how = await self._employ(post)
            lived_s = trio.current_time() - began_at
            self._board.clear(post.number, self._places.all)
            self._ended.retire(post.tally)
            post.leave()
            if self._leaving.is_set():
                break  # The store may be closed already.
            if self._may_employ.is_set():
                self._store.environment.free_readers()
            strikes = 0 if lived_s >= LIVED_WELL_S else strikes + 1
            pause_s = _pause_s(strikes)
            log.error(
                "a worker has ended, and is replaced",
                worker=post.number,
                how=how,
                lived_s=round(lived_s, 3),
                restarts=post.restarts,
                pause_s=pause_s,
            )
            with trio.move_on_after(pause_s):
                await self._leaving.wait()
        post.vacant.set()

    async def _is_wanted(self) -> bool:
        await self._may_employ.wait()
        return not self._leaving.is_set()

    async def _employ(self, post: Post) -> str:
        """One worker from its start to its end; how it has ended."""
        hire = self._reserve.take()
        settings, names, fds = self._listeners()
        setup = Setup(
            number=post.number,
            workers=self.size,
            settings=pack_settings(settings),
            places=pack_places(self._places.all),
            listeners=names,
            directory=str(self._store.environment.directory),
            clock_ahead_s=self._clock_ahead_s(),
            is_strict=self._is_strict,
            cookie_secrets=self._secrets.cookie_secrets,
            key_secret=self._secrets.key_secret,
        )
        try:
            first: list[Message] = [States(self._serial, list(self._states()))]
            if self._is_open:
                first.append(Open())
            await post.employ(
                hire,
                setup=(setup, [self._board.fd, *fds]),
                first=first,
                table=self._table,
                now=self._table_now,
                doubt=self._doubt,
                on_accepting=self._note_accepting,
            )
        finally:
            how = await hire.reap()
        return how

    def _listeners(self) -> tuple[Settings, list[str], list[int]]:
        """Settings as workers have them, the names of their listeners, and the sockets of these.

        Datagrams of one flow belong to one process, so those are the member's to serve.
        """
        assert self._plane is not None
        settings, held = self._plane.settings, self._plane.sockets
        streams = tuple(each for each in settings.listeners if each.protocol != "udp")
        names = [each.name for each in streams if each.name in held]
        fds = [held[name].fileno() for name in names]
        return settings.model_copy(update={"listeners": streams}), names, fds

    def _doubt(self, pool: str, name: str) -> None:
        known = self._plane.pools.get(PoolName(pool)) if self._plane is not None else None
        for backend in known.backends.values() if known is not None else ():
            if backend.name == name and self._plane is not None:
                self._plane.doubt(backend)

    # What workers are told ---------------------------------------------------------------

    def _tell(self, message: Message) -> None:
        for post in self._posts:
            post.tell(message)

    def _clock_ahead_s(self) -> float:
        """By how much table time is ahead of the clock that all processes share."""
        return self._table_now() - time.perf_counter()

    def _states(self) -> Iterator[list[object]]:
        assert self._plane is not None
        for pool in self._plane.pools.values():
            for backend in pool.backends.values():
                yield [pool.name, backend.name, backend.healthy, backend.ordered.value]

    async def _say_states(self) -> None:
        now = {(str(state[0]), str(state[1])): state for state in self._states()}
        changed = [state for backend, state in now.items() if self._told.get(backend) != state]
        self._told = now
        if changed:
            self._serial += 1
            self._tell(States(self._serial, changed))

    async def _pass_states_on(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            await self._say_states()

    async def _watch_board(self) -> None:
        """A store that is written again is read again."""
        while True:
            self._board.set_degraded(self._store.degraded is not None)
            await trio.sleep(WATCH_S)

    async def _watch_silence(self) -> None:
        while True:
            await trio.sleep(TICK_S)
            for post in self._posts:
                post.tick()


def _pause_s(strikes: int) -> float:
    """Before the next start, after so many in a row that ended soon; the first is an accident."""
    return 0.0 if strikes < 2 else min(PAUSE_S_MIN * 2.0 ** (strikes - 2), PAUSE_S_MAX)
