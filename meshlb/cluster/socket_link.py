"""A link whose bytes the reactor moves: no task is switched to for a frame, in or out.

A flush writes what the kernel takes at once; the rest goes out when the reactor says that there is
room. The link's one task only looks, every few seconds, whether anything has been silent or stuck
for too long.

Spec: protocol/spec/sealing.md, "Stream frames".
"""

import math
import os
from collections.abc import Callable

import trio

from meshlb.cluster.link import (
    KEEPALIVE_S,
    READ_BYTES,
    SILENCE_S,
    STALL_S,
    CloseReason,
    Deliver,
    Link,
)
from meshlb.model import Address
from meshlb.net.reactor import READ, WRITE, Reactor
from meshlb.wire.handshake import Established


class SocketLink(Link):
    """A link over a plain connection."""

    def __init__(
        self,
        stream: trio.SocketStream,
        established: Established,
        *,
        reactor: Reactor,
        dialled: Address | None,
        now: float,
        on_low: Callable[[], None],
        on_unknown: Callable[[int], None] = lambda type_id: None,
    ) -> None:
        """As `Link`; `reactor` moves its bytes from `run` on."""
        super().__init__(
            stream, established, dialled=dialled, now=now, on_low=on_low, on_unknown=on_unknown
        )
        self._reactor = reactor
        self._descriptor = stream.socket.fileno()
        self._deliver: Deliver = lambda link, messages: None
        self._is_registered = False
        self._unwritten = b""
        self._heard_at = self._said_at = now
        self._stuck_since = math.inf
        self._nap = trio.CancelScope()

    def flush(self) -> None:
        """Write what is queued, as far as the kernel takes it."""
        if self._outbox and not self._unwritten and self.is_open:
            self._write()

    def close(self, reason: CloseReason) -> None:
        """End the link; the first reason counts."""
        if self._is_registered:
            self._is_registered = False
            self._reactor.unregister(self._descriptor)
        super().close(reason)

    def abort(self) -> None:
        """End it, because of a bug."""
        self.close("broken")

    # Time --------------------------------------------------------------------------------

    async def _move(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._hear(self._established.rest, deliver)
        if self.is_open:
            self._reactor.register(self._descriptor, self.on_event, self._interest)
            self._is_registered = True
        while True:
            with trio.CancelScope(deadline=self._look(trio.current_time())) as self._nap:
                await trio.sleep_forever()

    def _look(self, now: float) -> float:
        """Whether anything has been silent or stuck for too long; when to look again."""
        if now >= self._heard_at + SILENCE_S:
            self.close("silent")
        elif self._unwritten:
            if now >= self._stuck_since + STALL_S:
                self.close("stalled")
        elif now >= self._said_at + KEEPALIVE_S:
            self._unwritten = self._next_frame()
            self._write()
        waits_until = (
            self._stuck_since + STALL_S if self._unwritten else self._said_at + KEEPALIVE_S
        )
        return min(self._heard_at + SILENCE_S, waits_until)

    # Bytes -------------------------------------------------------------------------------

    @property
    def _interest(self) -> int:
        return READ | WRITE if self._unwritten else READ

    def on_event(self, event: int) -> None:
        """The socket is ready, or broken."""
        if event & WRITE and self._unwritten:
            self._write()
            if self.is_low:
                self._on_low()
        if self.is_open and event & ~WRITE:
            self._read()

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close("broken")
            return
        if not chunk:
            self.close("hung-up")
        elif self._hear(chunk, self._deliver):
            self._heard_at = self._reactor.now

    def _write(self) -> None:
        """Write what is left of a frame, and what is queued, until the kernel takes no more."""
        had_to_wait = bool(self._unwritten)
        now = self._said_at = trio.current_time()
        while self._unwritten or self._outbox:
            frame = self._unwritten or self._next_frame()
            self._unwritten = frame[_write_some(self._descriptor, frame) :]
            if self._unwritten:
                break
            self._stuck_since = math.inf
        if self._unwritten and self._stuck_since == math.inf:
            self._stuck_since = now
            self._nap.deadline = min(self._nap.deadline, now + STALL_S)
        if self._is_registered and had_to_wait != bool(self._unwritten):
            self._reactor.watch(self._descriptor, self._interest)


def _write_some(descriptor: int, frame: bytes) -> int:
    """How much the kernel takes at once; what is broken is read from as well, and ends there."""
    try:
        return os.write(descriptor, frame)
    except OSError:
        return 0
