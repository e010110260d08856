"""One end of a tunnel that sits in the kernel relay.

Owns when the kernel may carry the bytes from here to the peer, and how much. Each direction of such
a tunnel is in one of these states:

    UNSEATED the program does not know the sockets yet; bytes go through user space
             → USER once it has sent some messages, and all that both had received has been read:
               the program would be given again what was read in part
             → APART where the program cannot take them, for good
    USER     the program passes what arrives to user space, and the end sends it on, as any end
             of a tunnel does
             → CARRIED once all that was passed has been sent on, and the peer takes it
    CARRIED  the program puts what arrives into the peer's send queue, within a credit
             → USER when it passes something, for the credit is used up, or when a FIN comes;
             → DELIVERING if part of what was redirected is still under way then
    DELIVERING  what was passed, or the FIN, waits for what was redirected before it
             → USER

What follows from how the kernel does it:

- Redirected bytes wait in a queue of the peer that nothing bounds and that closing discards. The
  credit bounds it: a part of the peer's send buffer beyond what the far end has acknowledged.
  Beyond it bytes are passed to user space, which has back-pressure. At half of it user space is
  told, so a peer that reads gets new credit in time.
- Bytes that user space sends would overtake that queue, and a FIN too: both wait until the peer's
  TCP has taken all that was redirected. The kernel does not announce that, so
  one task asks for it, with pauses that grow.
- From a seated socket nothing can be spliced, and none may leave. So whoever begins with bulk has
  to stay without a seat, and whoever is silent can: messages are what the kernel is there for.
- User space learns what happens through the program's ring. Epoll only reports the end of a
  socket that is carried: being woken for each message is what the relay is there to avoid.
"""

import fcntl
import select
import socket
import struct
import termios
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from meshlb.net.bpf.relay_program import (
    COLUMNS,
    FORWARDED,
    LIMIT,
    LOW,
    NOTICED,
    PASSED,
    REDIRECTED,
)
from meshlb.net.reactor import BROKEN, READ, WRITE
from meshlb.proxy.carried import Carried, Seat
from meshlb.proxy.tunnel import TunnelEnd

if TYPE_CHECKING:
    from meshlb.proxy.kernel_relay import KernelRelay

CREDIT_FRACTION: Final = 4
"""The credit is this part of the peer's send buffer, so that its queue is empty at once."""

CREDIT_BYTES_MAX: Final = 1 << 20
"""The most that can wait in the kernel for one reader beyond its send buffer."""

UNSEATED, APART, USER, CARRIED, DELIVERING = range(5)
"""The states of a direction."""

HANG_UP: Final = select.EPOLLRDHUP
_TCP_INFO_BYTES: Final = 128
_TCP_CLOSE: Final = 7
_LAST_RECEIVED: Final = struct.Struct("=I")
_LAST_RECEIVED_OFFSET: Final = 52
_ACKED: Final = struct.Struct("=Q")
_ACKED_OFFSET: Final = 120
_UNACKED: Final = struct.Struct("=i")


class RelayedEnd(TunnelEnd):
    """One end of a tunnel whose sockets sit in the kernel relay.

    Attributes:
        place: where it sits; below zero: nowhere.
        state: of the direction from here to the peer; see the module's docstring.
    """

    __slots__ = (
        "_base",
        "_messages",
        "_passed_bytes",
        "_redirected_bytes",
        "_relay",
        "_twin",
        "place",
        "state",
    )

    _base: int
    """What the peer's TCP had taken in all, less what had been redirected by then."""
    _messages: int
    """Small reads in a row."""
    _passed_bytes: int
    """What the program has passed to user space, and was read here."""
    _redirected_bytes: int
    """What the program has redirected, and is counted in `moved_bytes`."""
    _relay: "KernelRelay"
    _twin: "RelayedEnd"
    """The peer, as what it is: both ends of a tunnel are of one kind."""
    place: int
    state: int

    def join(self, relay: "KernelRelay", twin: "RelayedEnd") -> None:
        """Go into the kernel once that is possible."""
        self._relay = relay
        self._twin = twin
        self.place = -1
        self.state = UNSEATED
        self._base = self._messages = self._passed_bytes = self._redirected_bytes = 0

    def sit(self, place: int) -> None:
        """The program knows the socket from now on, and passes everything."""
        self.place = place
        self._passed_bytes = 0
        self._relay.program.rows[place * COLUMNS + NOTICED] = 1

    def resume(self, seat: Seat) -> None:
        """Keep the seat that the socket has; it stands aside there, so everything is passed."""
        self.place = seat.place
        self.state = USER if self._twin.place >= 0 else APART
        self._passed_bytes = seat.passed_bytes
        self._redirected_bytes = self._rows(REDIRECTED)

    def carried(self) -> Carried:
        """All that another process needs to go on with it, and with its seat."""
        if self.place < 0:
            return super().carried()
        seat = Seat(self._relay.name, self.place, self._passed_bytes)
        return replace(super().carried(), seat=seat)

    @property
    def may_splice(self) -> bool:
        """Not while it is seated: what was passed would be overlooked."""
        return self.place < 0 and super().may_splice

    @property
    def sock(self) -> socket.socket:
        """The plain socket."""
        assert isinstance(self._sock, socket.socket)
        return self._sock

    def start(self) -> None:
        """Send on what has come meanwhile; then let the kernel do it."""
        if self.state <= USER:  # It may be in the kernel already, with its peer.
            super().start()
            self._settle()

    def on_event(self, event: int) -> None:
        """Move one read's worth, and see whether the kernel can go on; or note the end."""
        if event & WRITE:
            self.flush()
            if self.closed:
                return
        if event & (READ | HANG_UP) or (event & BROKEN and self._interest & (READ | HANG_UP)):
            self._relay_read()
            self._settle()
        elif event & BROKEN:
            self.mute()

    def on_notice(self) -> None:
        """The program has passed something, or half of the credit is used up."""
        if self.state != CARRIED:
            return
        self._relay.program.rows[self.place * COLUMNS + NOTICED] = 0
        # Reading takes the socket's lock, under which the program runs: so either this finds
        # what was passed, or the program sees that it has to tell of it.
        self._relay_read()
        if self.state != CARRIED or self.closed:
            self._settle()
        elif self._is_all_read():
            self._extend_credit()
        else:
            self._listen_for(READ)

    def _pass_on(self, chunk: bytes) -> None:
        self._messages = 0 if self.is_bulky else self._messages + 1
        self._passed_bytes += len(chunk)
        if self.state == CARRIED:
            if not self.is_delivered():
                self._twin.backlog = bytearray(chunk)
                self._await_delivery()
                return
            self.state = USER
        self._listen_for(READ if self._twin.send(chunk) else 0)

    def _end(self) -> None:
        self._listen_for(0)
        if self.place >= 0 and not self._is_all_read():
            self._relay.await_delivery(self)  # The kernel states the end too early.
            return
        self.ended = True
        if self.state == CARRIED and not self.is_delivered():
            self._await_delivery()
            return
        self.state = USER
        if not self._twin.backlog:
            self._twin.on_drained()

    def _await_delivery(self) -> None:
        self.state = DELIVERING
        self._listen_for(0)
        self._relay.await_delivery(self)

    def is_delivered(self) -> bool:
        """Whether the peer's TCP has taken all that was redirected, or never will."""
        acked, is_closed = self._twin.acked_bytes()
        written = acked + self._twin.unacked_bytes()
        return is_closed or written - self._base >= self._rows(REDIRECTED)

    def poll(self) -> None:
        """See whether what is awaited has come; if not, ask for the next time."""
        if self.closed:  # It is on its way to another process, and may come back.
            self._relay.await_delivery(self)
        elif self.state != DELIVERING:
            self._relay_read()
        elif self.is_delivered():
            self._on_delivered()
        else:
            self._relay.await_delivery(self)

    def _on_delivered(self) -> None:
        """What waited for the delivery may go: bytes that user space holds, or a FIN."""
        self.state = USER
        peer = self._twin
        if peer.backlog:
            peer._watch_writing(True)
            peer.flush()
        else:
            peer.on_drained()

    def on_drained(self) -> None:
        """Everything the peer sent has gone out here."""
        super().on_drained()
        self._twin._settle()

    def _take_seats(self) -> None:
        """Go into the kernel with the peer, if nothing is left that either has received."""
        for end in (self, self._twin):
            if end.ended or end.closed or end.backlog or end._relay_read():
                return
        is_seated = self._relay.seat(self, self._twin)
        self.state = self._twin.state = USER if is_seated else APART
        if is_seated:
            self._settle()
            self._twin._settle()

    @property
    def is_in_hand(self) -> bool:
        """Not while the kernel carries its bytes."""
        return self.state in (UNSEATED, APART, USER)

    @property
    def is_read_out(self) -> bool:
        """Not while the kernel keeps what it has passed behind what it redirects to here."""
        return super().is_read_out and (self.place < 0 or self._is_all_read())

    def stand_aside(self) -> None:
        """Have everything passed to user space from now on."""
        if self.state != CARRIED:
            return
        self._relay.program.rows[self.place * COLUMNS + LIMIT] = 0
        # Reading takes the socket's lock: what the program redirected by the old limit is counted.
        self._relay_read()
        if self.state != CARRIED or self.closed:
            return
        if self.is_delivered():
            self.state = USER
            self._listen_for(0 if self._twin.backlog else READ)
        else:
            self._await_delivery()

    def settle(self) -> None:
        """The kernel may go on after `stand_aside`."""
        if not self.closed:
            self._settle()

    def _settle(self) -> None:
        """Let the kernel go on from here, if user space holds nothing that comes before."""
        peer = self._twin
        if self._relay.is_aside:
            return
        if self.state == UNSEATED:
            if self._messages >= self._relay.messages_min and not peer.is_bulky:
                self._take_seats()
            return
        if (
            self.state != USER
            or self.ended
            or self.closed
            or peer.backlog
            or self._interest & (READ | HANG_UP) != READ
            or not self._is_all_read()
        ):
            return
        acked, _ = peer.acked_bytes()
        unacked = peer.unacked_bytes()
        if 2 * unacked > peer.credit_bytes():
            return  # A reader that is slow just now: user space has back-pressure for it.
        row = self.place * COLUMNS
        rows = self._relay.program.rows
        self._base = acked + unacked - rows[row + REDIRECTED]
        self._extend_credit()
        rows[row + FORWARDED] = self._passed_bytes
        rows[row + NOTICED] = 0
        self.state = CARRIED
        self._listen_for(HANG_UP)
        # What was passed before the program could see that it has to tell of it.
        if not self._relay_read() and not self._is_all_read():
            self._listen_for(READ)

    def _is_all_read(self) -> bool:
        """Whether what was passed has come up: it waits for what the peer redirects to here."""
        return self._rows(PASSED) == self._passed_bytes

    def _extend_credit(self) -> None:
        """As far as the far end has acknowledged, and a part of the peer's send buffer more."""
        peer = self._twin
        acked, _ = peer.acked_bytes()
        credit = peer.credit_bytes()
        row = self.place * COLUMNS
        rows = self._relay.program.rows
        redirected = rows[row + REDIRECTED]
        limit = max(0, acked - self._base + credit)
        room = limit - redirected
        rows[row + LIMIT] = limit
        rows[row + LOW] = redirected + room // 2 if room > credit // 4 else limit

    def acked_bytes(self) -> tuple[int, bool]:
        """What the far end has acknowledged in all, and whether the connection is gone."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return _ACKED.unpack_from(info, _ACKED_OFFSET)[0], info[0] == _TCP_CLOSE

    def unacked_bytes(self) -> int:
        """What TCP has taken and the far end has not acknowledged.

        Asked for after `acked_bytes`, so that the sum of both is never too large.
        """
        answer = fcntl.ioctl(self.fd, termios.TIOCOUTQ, b"\0\0\0\0")
        unacked: int = _UNACKED.unpack(answer)[0]
        return unacked

    def credit_bytes(self) -> int:
        """How much may be redirected to here beyond what is acknowledged."""
        size = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return min(size // CREDIT_FRACTION, CREDIT_BYTES_MAX)

    def look(self) -> None:
        """Count what was redirected, and learn when that was."""
        if self.place < 0:
            return
        redirected = self._rows(REDIRECTED)
        if redirected == self._redirected_bytes:
            return
        self.moved_bytes += redirected - self._redirected_bytes
        self._redirected_bytes = redirected
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        silent_ms = _LAST_RECEIVED.unpack_from(info, _LAST_RECEIVED_OFFSET)[0]
        self.progress_at = max(self.progress_at, self._reactor.now - silent_ms / 1_000)

    def _listen_for(self, reading: int) -> None:
        """Change what is reported of what comes in; a backlog goes on going out."""
        self._watch(reading | WRITE if self._interest & WRITE else reading)

    def _rows(self, column: int) -> int:
        return self._relay.program.rows[self.place * COLUMNS + column]

    def abandon(self) -> None:
        """Let go of the socket, which keeps its seat."""
        self._relay.forget(self)
        super().abandon()

    def close(self) -> None:
        """Leave the relay with the socket."""
        if not self.closed:
            if self.place >= 0:
                self._relay.leave(self)
            super().close()
