"""Connections on their way from a process of a node to one of its next program.

Owns the words that both say over the line between them:

    giver   keep              the kernel relays that tunnels sit in
            load, load …      some connections; each once the one before has been taken
    taker   taken, taken …
    giver   done

A giver may have several lines, each to another taker, and a taker several of its own. A line that
breaks costs nothing: what was on its way goes on in the giver, and goes by another line. Must not
know what is in a load.
"""

import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Final

import structlog
import trio

from meshlb.core.websocket.close import CloseCode
from meshlb.errors import HandOverError
from meshlb.net.parcels import Parcel, ParcelService
from meshlb.proxy import handover
from meshlb.proxy.goodbye import Goodbye
from meshlb.proxy.plane import DataPlane

TAKE_S_MAX: Final = 20.0
"""For one load."""

SWEEP_S: Final = 0.05
"""How often the giver looks for what can move now."""

log = structlog.get_logger()


async def give(plane: DataPlane, lines: Iterable[ParcelService], *, timeout_s: float) -> None:
    """Give away every connection of `plane`, which is paused, each once it can move.

    Args:
        plane: whoever is left in it at the end can go with it.
        lines: to the takers, one load to each in turn; closed at the end.
        timeout_s: how long to wait for exchanges to end.

    Raises:
        HandOverError: no line is left; who has not moved is here.
    """
    giver = _Giver(plane, lines)
    goodbye = Goodbye(CloseCode.SERVICE_RESTART)
    deadline = trio.current_time() + timeout_s
    try:
        await giver.prepare()
        while True:
            while load := handover.next_load(plane):
                await giver.send(load)
            handover.send_away(plane)
            goodbye.say([tunnel for tunnel in plane.tunnels if not tunnel.is_plain])
            if handover.is_empty(plane) or trio.current_time() >= deadline:
                break
            await trio.sleep(SWEEP_S)
        await giver.finish()
    finally:
        giver.close()
        log.info("connections moved", moved=giver.moved, left=handover.count(plane))


class _Giver:
    def __init__(self, plane: DataPlane, lines: Iterable[ParcelService]) -> None:
        self._plane = plane
        self._lines = deque(lines)
        self.moved = 0

    async def prepare(self) -> None:
        facts, files = handover.stand_aside(self._plane, heirs=len(self._lines))
        for line in list(self._lines):
            try:
                await line.send(Parcel("keep", facts, [], files))
            except HandOverError as error:
                self._drop(line, error)

    async def send(self, load: handover.Load) -> None:
        """By the line whose turn it is, or the next one that works."""
        line = self._lines[0]
        try:
            with trio.fail_after(TAKE_S_MAX):
                await line.send(Parcel("load", load.facts, load.sockets))
                await line.expect("taken")
        except (HandOverError, trio.TooSlowError) as error:
            load.put_back()
            self._drop(line, error)
            return
        except BaseException:
            load.put_back()
            raise
        load.left()
        self.moved += len(load.facts)
        self._lines.rotate(-1)

    async def finish(self) -> None:
        for line in self._lines:
            with contextlib.suppress(HandOverError):  # It has all that it was given.
                await line.send(Parcel("done"))

    def _drop(self, line: ParcelService, error: Exception) -> None:
        reason = str(error) or "it took too long"
        log.warning("a process that takes connections over is lost", reason=reason)
        line.close()
        self._lines.remove(line)
        if not self._lines:
            raise HandOverError(f"nobody takes the connections over: {reason}") from error

    def close(self) -> None:
        for line in self._lines:
            line.close()


async def take(plane: DataPlane, line: ParcelService) -> None:
    """Go on in `plane` with all that comes; the line is closed at the end."""
    try:
        with plane.tunnels.arriving():
            while (parcel := await line.receive()).what != "done":
                if parcel.what == "keep":
                    handover.keep(plane, parcel.facts, parcel.files)
                elif parcel.what == "load":
                    handover.unpack(plane, parcel.facts, parcel.sockets)
                    await line.send(Parcel("taken"))
    except HandOverError as error:
        log.warning("a process that gave its connections ended early", reason=str(error))
    finally:
        line.close()
