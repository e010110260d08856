"""An upgrade: a new process goes on as this node, with its sockets and its connections.

Owns both sides of the conversation. What each says, over a socket pair:

    new   hello     it has the program and a good configuration, and is the same node
                    (or `faults`: it has not)
    old             begins nothing any more, tells its cluster all that it knows, closes its store
    old   sockets   those that it listens at
    new             opens the store, joins, and lets clients in once its table is in sync
    new   ready     and how many processes of it serve clients
    old   line …    so that each process that serves here has one to such a process there, and each
                    of those at least one; over these connections move, see `proxy.moving`
    old   done      once nothing is left that could move, or `shutdown_timeout` has passed
    new   goodbye   it owns everything now

Until `ready` the old process can go back: it opens its store again and serves on with all that it
has. So it can later, should the new one end, but for what has moved by then. Must not know how
connections move, nor how a node is wired.

Decision: docs/adr/0012-two-processes-upgrade-a-node.md.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from meshlb import __version__
from meshlb.config import Settings
from meshlb.errors import HandOverError
from meshlb.net.parcels import Parcel, ParcelService
from meshlb.node.doors import Doors
from meshlb.node.front import Front
from meshlb.store.directory import StoreDirectory

ENVIRONMENT: Final = "MESHLB_HANDOVER_FD"
"""Where a new process finds its end of the socket pair."""

CONVERSATION: Final = 3
"""Raised when an old process would not understand a new one."""

START_S_MAX: Final = 30.0
"""From the start of the new process to its hello."""

READY_S_MAX: Final = 60.0
"""From its having the sockets to its being ready: it joins, and takes what it missed."""

GOODBYE_S_MAX: Final = 20.0
"""From the last word of the old process to that of the new one."""

LINES_MAX: Final = 128
"""Those to one process; where more take connections over, some get newcomers alone."""

DECIDE_S_MAX: Final = 3.0
"""For requests that wait for the cluster, or for a backend to be connected to."""

ANSWER_S: Final = 0.1
"""From the order to the first step that a client of the admin API could notice."""

log = structlog.get_logger()


class UpgradeError(HandOverError):
    """The new process does not take over; the old one goes on with everything."""

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


def identity(settings: Settings) -> dict[str, Any]:
    """What two processes that are the same node have in common."""
    cluster = settings.cluster
    return {
        "node": settings.node.name,
        "data_dir": str(settings.node.data_dir),
        "cluster": None if cluster is None else cluster.name,
    }


class Upgrader:
    """Starts new processes of this node, at most one at a time; one per process.

    Attributes:
        heir: the new process that waits to take over.
        failed_at: when an upgrade has failed last, in seconds of the wall clock; None: never.
        failure: why.
    """

    def __init__(self, argv: Sequence[str] | None = None) -> None:
        """`argv` starts the new program; None: as this one was started."""
        self._argv = list(argv or [sys.executable, *sys.orig_argv[1:]])
        self._starting = False
        self.heir: Heir | None = None
        self.failed_at: float | None = None
        self.failure = ""

    async def start(self, settings: Settings) -> int:
        """Start the new program, and wait until it says that it could take over.

        Returns:
            Its process id.

        Raises:
            UpgradeError: why it cannot; nothing has changed.
        """
        if self._starting or self.heir is not None:
            raise UpgradeError("an upgrade is under way already")
        self._starting = True
        try:
            self.heir = await _start(self._argv, identity(settings))
        except UpgradeError as error:
            self.failed(str(error), error.faults)
            raise
        finally:
            self._starting = False
        return self.heir.pid

    def failed(self, reason: str, faults: Sequence[str] = ()) -> None:
        """The new process does not take over."""
        self.heir = None
        self.failed_at, self.failure = time.time(), "; ".join([reason, *faults])
        log.error("upgrade failed; this process goes on", reason=reason, faults=list(faults))


async def _start(argv: Sequence[str], who: Mapping[str, Any]) -> "Heir":
    service, there = ParcelService.pair()
    try:
        with there:
            process = await trio.lowlevel.open_process(
                argv,
                pass_fds=[there.fileno()],
                env={**os.environ, ENVIRONMENT: str(there.fileno())},
            )
    except OSError as error:
        service.close()
        raise UpgradeError(f"the new program cannot be started: {error}") from error
    heir = Heir(process, service)
    try:
        with trio.fail_after(START_S_MAX):
            hello = await service.receive()
        if hello.what == "faults":
            raise UpgradeError("the new program refuses its configuration", hello.facts)
        if hello.what != "hello" or hello.facts["conversation"] != CONVERSATION:
            raise UpgradeError("the new program does not know how to take over from this one")
        if hello.facts["identity"] != who:
            raise UpgradeError("the new configuration is another node's; restart for that")
    except trio.TooSlowError:
        await heir.give_up()
        raise UpgradeError(f"the new program did not start within {START_S_MAX:g} s") from None
    except UpgradeError:
        await heir.give_up()
        raise
    except HandOverError as error:
        status = await heir.give_up()
        raise UpgradeError(f"the new program ended with status {status}; see its log") from error
    except BaseException:
        await heir.give_up()
        raise
    log.info("upgrade: the new program is there", pid=heir.pid, version=hello.facts["version"])
    return heir


class Heir:
    """The new process, as the old one sees it."""

    def __init__(self, process: trio.Process, service: ParcelService) -> None:
        self._process = process
        self._service = service

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def take_over(
        self, front: Front, doors: Doors, directory: StoreDirectory, *, timeout_s: float
    ) -> None:
        """Give it everything. The front is paused, and the store is closed.

        Args:
            front: this process's; whoever is left in it at the end can go with it.
            doors: the node's other sockets.
            directory: of the store.
            timeout_s: how long to wait for exchanges to end.

        Raises:
            UpgradeError: it has not taken over, or has ended since; what has not moved is here.
        """
        try:
            sockets = [*front.sockets.values(), *doors.cluster, doors.admin.sock]
            facts = {
                "listeners": list(front.sockets),
                "cluster": len(doors.cluster),
                "directory": str(directory.path) if directory.is_temporary else None,
            }
            await self._service.send(Parcel("sockets", facts, sockets))
            with trio.fail_after(READY_S_MAX):
                ready = await self._service.expect("ready")
            log.info("upgrade: the new process serves", pid=self.pid)
            deadline = trio.current_time() + timeout_s
            lines = await self._connect(front.hands, ready.facts["hands"])
            hindered = await front.give(lines, timeout_s=timeout_s)
            await self._service.send(Parcel("done"))
            with trio.fail_after(GOODBYE_S_MAX):
                await self._service.expect("goodbye")
        except trio.TooSlowError:
            await self.give_up()
            raise UpgradeError("the new process did not take over in time") from None
        except HandOverError as error:
            status = await self.give_up()
            raise UpgradeError(f"the new process ended with status {status}: {error}") from error
        self._service.close()
        directory.hand_over()
        if hindered:
            log.error("upgrade: some connections could not be moved", reasons=hindered)
            await front.drain(timeout_s=max(0.0, deadline - trio.current_time()))

    async def _connect(self, here: int, there: int) -> list[socket.socket]:
        """Lines between `here` processes of this one and `there` of the new one."""
        lines: list[socket.socket] = []
        try:
            for number in range(max(here, min(there, LINES_MAX))):
                ours, theirs = socket.socketpair()
                lines.append(ours)
                with theirs:
                    await self._service.send(Parcel("line", number, [theirs]))
        except BaseException:
            for line in lines:
                line.close()
            raise
        return lines

    async def give_up(self) -> int:
        """End it, if it has not ended; its status."""
        self._service.close()
        with trio.CancelScope(shield=True):
            if self._process.poll() is None:
                with trio.move_on_after(0.5):
                    await self._process.wait()  # It may be about to end by itself.
                if self._process.poll() is None:
                    self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
        return self._process.returncode or 0


class Heritage:
    """What a new process gets from the old one."""

    def __init__(self, service: ParcelService) -> None:
        self._service = service

    @classmethod
    def expected(cls) -> "Heritage | None":
        """There is some if an upgrade has started this process. Call it once."""
        fd = os.environ.pop(ENVIRONMENT, None)
        if fd is None:
            return None
        os.set_inheritable(int(fd), False)
        return cls(ParcelService(socket.socket(fileno=int(fd))))

    async def refuse(self, faults: Sequence[str]) -> None:
        """The configuration is no good: the old process goes on."""
        with contextlib.suppress(HandOverError):
            await self._service.send(Parcel("faults", list(faults)))
        self._service.close()

    async def claim(self, settings: Settings) -> Parcel:
        """Say that this process can take over, and wait for the sockets; the caller owns them.

        Raises:
            HandOverError: the old process has changed its mind.
        """
        hello = {
            "conversation": CONVERSATION,
            "version": __version__,
            "identity": identity(settings),
        }
        await self._service.send(Parcel("hello", hello))
        return await self._service.expect("sockets")

    async def take(self, front: Front, directory: StoreDirectory) -> None:
        """This process serves: say so, and take what comes until the old one is done."""
        async with trio.open_nursery() as nursery:
            try:
                await self._service.send(Parcel("ready", {"hands": front.hands}))
                while (parcel := await self._service.receive()).what != "done":
                    if parcel.what == "line":
                        nursery.start_soon(front.take, parcel.facts, parcel.sockets[0])
                await self._service.send(Parcel("goodbye"))
            except HandOverError as error:
                log.warning("the process before this one ended early", reason=str(error))
            finally:
                self._service.close()
            directory.own()


def directory_in(inherited: Parcel | None) -> Path | None:
    """The temporary directory of the process before this one, if it had one."""
    place = None if inherited is None else inherited.facts["directory"]
    return None if place is None else Path(place)


def refuse_heritage(faults: Sequence[str]) -> None:
    """Before anything runs: if an upgrade has started this process, say why it fails."""

    async def refuse() -> None:
        heritage = Heritage.expected()
        if heritage is not None:
            await heritage.refuse(faults)

    if ENVIRONMENT in os.environ:
        trio.run(refuse)
