"""An upgrade: a new process goes on as this node, with its sockets and its connections.

Owns both sides of the conversation. What each says, over a socket pair:

    new   hello     it has the program and a good configuration, and is the same node
                    (or `faults`: it has not)
    old             begins nothing any more, tells its cluster all that it knows, closes its store
    old   sockets   those that it listens at
    new             opens the store, joins, and lets clients in once its table is in sync
    new   ready
    old   keep, load, load …   what tunnels need, then idle clients and tunnels; each load once the
    new   taken …              one before it has been taken
    old   done      once nothing is left that could move, or `shutdown_timeout` has passed

Until `ready` the old process can go back: it opens its store again and serves on with all that it
has. So it can later, should the new one end, but for what has moved by then. Must not know how
connections are packed, nor how a node is wired.

Decision: docs/adr/0012-two-processes-upgrade-a-node.md.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
import trio

from meshlb import __version__
from meshlb.config import Settings
from meshlb.errors import HandOverError
from meshlb.net.parcels import Parcel, ParcelService
from meshlb.node.doors import Doors
from meshlb.proxy import handover
from meshlb.proxy.plane import DataPlane

ENVIRONMENT: Final = "MESHLB_HANDOVER_FD"
"""Where a new process finds its end of the socket pair."""

CONVERSATION: Final = 1
"""Raised when an old process would not understand a new one."""

START_S_MAX: Final = 30.0
"""From the start of the new process to its hello."""

READY_S_MAX: Final = 60.0
"""From its having the sockets to its being ready: it joins, and takes what it missed."""

TAKE_S_MAX: Final = 20.0
"""For one load."""

DECIDE_S_MAX: Final = 3.0
"""For requests that wait for the cluster, or for a backend to be connected to."""

ANSWER_S: Final = 0.1
"""From the order to the first step that a client of the admin API could notice."""

SWEEP_S: Final = 0.05
"""How often the old process looks for what can move now."""

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
        if settings.node.data_dir is None:
            raise UpgradeError("an upgrade needs node.data_dir: pins are handed over on the disk")
        if settings.node.workers != 0:
            raise UpgradeError("an upgrade with workers is not supported yet; set node.workers = 0")
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

    async def take_over(self, plane: DataPlane, doors: Doors, *, timeout_s: float) -> None:
        """Give it everything. The plane is paused, and the store is closed.

        Args:
            plane: this process's; whoever is left in it at the end can go with it.
            doors: the node's sockets.
            timeout_s: how long to wait for exchanges to end.

        Raises:
            UpgradeError: it has not taken over, or has ended since; what has not moved is here.
        """
        try:
            names = list(plane.sockets)
            sockets = [*plane.sockets.values(), *doors.cluster, doors.admin.sock]
            facts = {"listeners": names, "cluster": len(doors.cluster)}
            await self._service.send(Parcel("sockets", facts, sockets))
            with trio.fail_after(READY_S_MAX):
                await self._service.expect("ready")
            log.info("upgrade: the new process serves", pid=self.pid)
            await self._move(plane, timeout_s)
            await self._service.send(Parcel("done"))
        except trio.TooSlowError:
            await self.give_up()
            raise UpgradeError("the new process did not take over in time") from None
        except HandOverError as error:
            status = await self.give_up()
            raise UpgradeError(f"the new process ended with status {status}: {error}") from error
        self._service.close()

    async def _move(self, plane: DataPlane, timeout_s: float) -> None:
        await self._service.send(Parcel("keep", None, [], handover.stand_aside(plane)))
        deadline = trio.current_time() + timeout_s
        moved = 0
        while True:
            while load := handover.next_load(plane):
                try:
                    await self._service.send(Parcel("load", load.facts, load.sockets))
                    with trio.fail_after(TAKE_S_MAX):
                        await self._service.expect("taken")
                except BaseException:
                    load.put_back()
                    raise
                load.left()
                moved += len(load.facts)
            handover.send_away(plane)
            if handover.is_empty(plane) or trio.current_time() >= deadline:
                break
            await trio.sleep(SWEEP_S)
        log.info("upgrade: connections moved", moved=moved, left=handover.count(plane))

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

    async def take(self, plane: DataPlane) -> None:
        """This process serves: say so, and take what comes until the old one is done."""
        try:
            await self._service.send(Parcel("ready"))
            while (parcel := await self._service.receive()).what != "done":
                if parcel.what == "keep":
                    plane.tunnels.kept += parcel.files
                elif parcel.what == "load":
                    handover.unpack(plane, parcel.facts, parcel.sockets)
                    await self._service.send(Parcel("taken"))
        except HandOverError as error:
            log.warning("the process before this one ended early", reason=str(error))
        finally:
            self._service.close()
            if not len(plane.tunnels):
                plane.tunnels.drop_kept()


def refuse_heritage(faults: Sequence[str]) -> None:
    """Before anything runs: if an upgrade has started this process, say why it fails."""

    async def refuse() -> None:
        heritage = Heritage.expected()
        if heritage is not None:
            await heritage.refuse(faults)

    if ENVIRONMENT in os.environ:
        trio.run(refuse)
