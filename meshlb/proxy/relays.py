"""The kernel relays of one process: its own, and those that processes before it have left.

Owns which of them a tunnel goes to. New tunnels go to its own, if there is one. A socket cannot
change from one relay to another, so a tunnel that came in an upgrade stays in the one that it sat
in, and that one is kept until its last tunnel has ended. What a relay does is for `kernel_relay`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO

import trio

from meshlb.net.bpf.relay_program import RelayProgram
from meshlb.net.reactor import Reactor
from meshlb.proxy.carried import Carried
from meshlb.proxy.kernel_relay import KernelRelay
from meshlb.proxy.stream import Stream
from meshlb.proxy.tunnel import TunnelEnd

Pair = tuple[TunnelEnd, TunnelEnd]


@dataclass(frozen=True, slots=True)
class Left:
    """A relay on its way to another process, which owns `files` when it has arrived."""

    name: str
    pairs_max: int
    is_shared: bool
    """Several processes get a part of its tunnels; so nobody may hear what it says."""
    files: Sequence[FileIO]


class Relays:
    """Of one process; `close` releases them.

    Attributes:
        own: where new tunnels go; None: they stay in user space.
    """

    def __init__(self, reactor: Reactor) -> None:
        self.own: KernelRelay | None = None
        self._reactor = reactor
        self._adopted: dict[str, KernelRelay] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve them until cancelled."""
        async with trio.open_nursery() as self._nursery:
            if self.own is not None:
                self._nursery.start_soon(self.own.run)
            await trio.sleep_forever()

    def pair(self, downstream: Stream, upstream: Stream) -> Pair:
        """Ends for a new tunnel of two streams, which are spent."""
        pair = self.own.pair(downstream, upstream) if self.own is not None else None
        return pair or (
            TunnelEnd.of(self._reactor, downstream),
            TunnelEnd.of(self._reactor, upstream),
        )

    def resumed(self, downstream: Carried, upstream: Carried) -> Pair:
        """Ends for a tunnel of another process."""
        names = {carried.seat.relay for carried in (downstream, upstream) if carried.seat}
        relay = self._adopted[names.pop()] if names else self.own
        if relay is not None:
            return relay.adopt(downstream, upstream)
        return (
            TunnelEnd.adopted(self._reactor, downstream),
            TunnelEnd.adopted(self._reactor, upstream),
        )

    def adopt(self, left: Left) -> None:
        """Go on with a relay of another process, which touches it no more.

        Raises:
            BpfError: this process cannot.
        """
        assert self._nursery is not None, "`run` comes first"
        fds = []
        for file in left.files:
            fds.append(os.dup(file.fileno()))
            file.close()
        program = RelayProgram.adopted(left.pairs_max, fds)
        relay = self._adopted[left.name] = KernelRelay(self._reactor, program, name=left.name)
        if left.is_shared or self.own is None:
            relay.stand_aside(for_good=True)
        self._nursery.start_soon(relay.run)

    def stand_aside(self, *, heirs: int = 0) -> list[Left]:
        """Have all bytes passed to user space; what so many processes have to go on with."""
        for relay in self._all():
            relay.stand_aside()
        return [
            Left(
                relay.name,
                relay.program.pairs_max,
                heirs > 1 or relay.is_aside_for_good,
                [FileIO(fd, closefd=False) for fd in relay.program.shared_fds],
            )
            for relay in self._all()
        ]

    def go_on(self) -> None:
        """Carry what can be carried again: no other process does it."""
        for relay in self._all():
            relay.go_on()

    def drop_empty(self) -> None:
        """Release what other processes have left and no tunnel needs any more."""
        for name, relay in list(self._adopted.items()):
            if not relay.seated:
                del self._adopted[name]
                relay.close()

    def close(self) -> None:
        """Release them all; their tunnels have ended."""
        for relay in self._all():
            relay.close()
        self._adopted.clear()

    def _all(self) -> list[KernelRelay]:
        return [*([self.own] if self.own is not None else []), *self._adopted.values()]
