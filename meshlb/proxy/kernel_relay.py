"""The kernel relay: both sockets of a tunnel in a BPF sockmap, and no process is woken at all.

Owns the program (`net.bpf.relay_program`), the pairs of places in it, and the one task that asks
whether what was redirected has been delivered. What happens at a place is for `relayed_end`.
"""

import secrets
import socket
from dataclasses import dataclass
from typing import Final, Literal

import structlog
import trio

from meshlb.errors import RelayError
from meshlb.net.bpf.calls import BpfError
from meshlb.net.bpf.relay_program import RelayProgram
from meshlb.net.last_resort import end_failed
from meshlb.net.reactor import Reactor
from meshlb.proxy.carried import Carried
from meshlb.proxy.kernel_probe import probe
from meshlb.proxy.relayed_end import RelayedEnd
from meshlb.proxy.stream import Stream

PAIRS_MAX: Final = 65_536
"""Tunnels that one process can have in the kernel; further ones stay in user space."""

MESSAGES_MIN: Final = 4
"""So many in a row have to come through user space before the kernel takes over."""

DELIVERY_PAUSE_S: Final = 0.0005
DELIVERY_PAUSE_S_MAX: Final = 0.05
"""How long to wait before asking again whether redirected bytes have reached the peer's TCP."""

log = structlog.get_logger()


class KernelRelay:
    """Of one process at a time.

    Attributes:
        is_aside: everything is passed to user space.
        messages_min: what a direction has to send before its tunnel goes into the kernel.
        name: no other relay has it, whichever process it is in.
        program: what it is for the kernel.
        seated: tunnels that sit in the kernel now.
    """

    def __init__(
        self,
        reactor: Reactor,
        program: RelayProgram,
        *,
        name: str | None = None,
        messages_min: int = MESSAGES_MIN,
    ) -> None:
        """Own `program`; `run` serves it, `close` releases it once its tunnels have ended."""
        self.program = program
        self.name = name or secrets.token_hex(8)
        self.seated = 0
        self._reactor = reactor
        self._pairs_max = program.pairs_max
        self.messages_min = messages_min
        self._ends: list[RelayedEnd | None] = []
        self._free_pairs: list[int] = []
        self.is_aside = self.is_aside_for_good = False
        self._undelivered: set[RelayedEnd] = set()
        self._has_undelivered = trio.Event()
        self._is_closed = False
        reactor.register(self.program.ring_fd, self._on_notices)

    def pair(self, downstream: Stream, upstream: Stream) -> "tuple[RelayedEnd, RelayedEnd] | None":
        """Ends for a tunnel of two streams, which are spent; None unless both are plain sockets."""
        if not (is_plain(downstream) and is_plain(upstream)):
            return None
        client = RelayedEnd.of(self._reactor, downstream)
        backend = RelayedEnd.of(self._reactor, upstream)
        client.join(self, backend)
        backend.join(self, client)
        return client, backend

    def seat(self, one: "RelayedEnd", other: "RelayedEnd") -> bool:
        """Let the program know both sockets, of which everything has been read.

        False where they have to stay in user space: one has just ended, or there is no room.
        """
        pair = self._take_pair()
        if pair is None:
            return False
        try:
            self.program.seat(2 * pair, one.sock)
        except BpfError:
            self._free_pairs.append(pair)
            return False
        self.seated += 1
        one.sit(2 * pair)
        self._ends[2 * pair] = one
        try:
            self.program.seat(2 * pair + 1, other.sock)
        except BpfError:
            # It ends just now. The first one cannot go back without losing what it has received
            # since, so it stays: without a limit, the program passes everything to user space.
            return False
        other.sit(2 * pair + 1)
        self._ends[2 * pair + 1] = other
        return True

    def adopt(self, downstream: Carried, upstream: Carried) -> "tuple[RelayedEnd, RelayedEnd]":
        """Go on with the two ends of a tunnel, at the places that they have here, if any."""
        ends = (
            RelayedEnd.adopted(self._reactor, downstream),
            RelayedEnd.adopted(self._reactor, upstream),
        )
        seats = downstream.seat, upstream.seat
        for end, twin, seat in zip(ends, reversed(ends), seats, strict=True):
            end.join(self, twin)
            end.place = seat.place if seat is not None else -1
        for end, seat in zip(ends, seats, strict=True):
            if seat is not None:
                end.resume(seat)
                while len(self._ends) <= seat.place | 1:
                    self._ends.append(None)
                self._ends[seat.place] = end
        self.seated += seats != (None, None)
        return ends

    def stand_aside(self, *, for_good: bool = False) -> None:
        """Have all bytes passed to user space, before tunnels move to another process.

        The sockets stay where they sit, for what the program has passed to one would be lost if
        it left: the other process has to go on with the program. What that says is for one
        process alone, so this one listens no more.
        """
        if not self.is_aside:
            self._reactor.unregister(self.program.ring_fd)
        self.is_aside = True
        self.is_aside_for_good |= for_good
        self._reactor.catch_up()
        for end in self._ends:
            if end is not None:
                end.stand_aside()

    def go_on(self) -> None:
        """Carry what can be carried again, unless it stands aside for good."""
        if self.is_aside_for_good:
            return
        if self.is_aside:
            self._reactor.register(self.program.ring_fd, self._on_notices)
        self.is_aside = False
        self._reactor.catch_up()
        for end in self._ends:
            if end is not None:
                end.settle()

    def _take_pair(self) -> int | None:
        if self._free_pairs:
            return self._free_pairs.pop()
        if len(self._ends) == 2 * self._pairs_max:
            return None
        self._ends += (None, None)
        return len(self._ends) // 2 - 1

    def leave(self, end: "RelayedEnd") -> None:
        """The socket of `end` is about to be closed."""
        self.forget(end)
        self._ends[end.place] = None
        self.program.unseat(end.sock)
        if self._ends[end.place ^ 1] is None:
            self._free_pairs.append(end.place // 2)
            self.seated -= 1

    def forget(self, end: "RelayedEnd") -> None:
        """Do not call its `poll` any more."""
        self._undelivered.discard(end)

    def await_delivery(self, end: "RelayedEnd") -> None:
        """Call `end.poll` in a moment, once."""
        self._undelivered.add(end)
        self._has_undelivered.set()

    def _on_notices(self, event: int) -> None:
        for place in self.program.notices():
            # Of another process's tunnels it may tell before they are here.
            end = self._ends[place] if place < len(self._ends) else None
            if end is not None:
                try:
                    end.on_notice()
                except Exception:
                    end_failed(end)

    async def run(self) -> None:
        """Ask for deliveries until closed or cancelled."""
        while not self._is_closed:
            if not self._undelivered:
                self._has_undelivered = trio.Event()
                await self._has_undelivered.wait()
            pause_s = DELIVERY_PAUSE_S
            while self._undelivered:
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, DELIVERY_PAUSE_S_MAX)
                self._reactor.catch_up()
                for end in list(self._undelivered):
                    if end not in self._undelivered:
                        continue  # Closed meanwhile, by another one.
                    self._undelivered.discard(end)
                    try:
                        end.poll()
                    except Exception:
                        end_failed(end)
                    if end not in self._undelivered:
                        pause_s = DELIVERY_PAUSE_S

    def close(self) -> None:
        """Release the program; tunnels must have ended, for they would lose bytes."""
        self._is_closed = True
        self._has_undelivered.set()
        self._reactor.unregister(self.program.ring_fd)
        self.program.close()


@dataclass(frozen=True, slots=True)
class RelayChoice:
    """Whether tunnels are relayed in the kernel, and if not, why."""

    active: bool
    reason: str = ""


def open_relay(
    mode: Literal["auto", "off", "required"], reactor: Reactor, *, pairs_max: int
) -> tuple[KernelRelay | None, RelayChoice]:
    """Try the relay out as far as the operator wants it, and make one.

    Args:
        mode: as configured.
        reactor: of the process.
        pairs_max: tunnels to have room for; 0: this process has none, and needs only the answer.

    Raises:
        RelayError: it is required, and cannot be had.
    """
    if mode == "off":
        return None, RelayChoice(False, "switched off in the configuration")
    try:
        probe()
        relay = KernelRelay(reactor, RelayProgram(pairs_max)) if pairs_max else None
    except BpfError as error:
        if mode == "required":
            raise RelayError(f'node.kernel_relay is "required", but {error}') from error
        log.info("tunnels stay in user space", reason=str(error))
        return None, RelayChoice(False, str(error))
    return relay, RelayChoice(True)


def is_plain(stream: Stream) -> bool:
    """Whether the channel of a stream is a socket that does nothing with its bytes."""
    return type(stream._sock) is socket.socket
