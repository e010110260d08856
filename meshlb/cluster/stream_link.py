"""A link whose bytes go through a stream of trio, such as TLS: two tasks, one for each direction.

Spec: protocol/spec/sealing.md, "Stream frames".
"""

from typing import Any, Final

import trio

from meshlb.cluster.link import (
    KEEPALIVE_S,
    OUTBOX_BYTES_LOW,
    READ_BYTES,
    SILENCE_S,
    STALL_S,
    Deliver,
    Link,
)

SILENCE_STEP_S: Final = 1.0
"""A silent peer is cut off up to so much later: moving a deadline with each frame costs more than
opening it."""


class StreamLink(Link):
    """A link over any stream."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As that of `Link`."""
        super().__init__(*args, **kwargs)
        self._queued = trio.Event()

    def flush(self) -> None:
        """Have the writer let out what is queued."""
        if self._outbox:
            self._queued.set()

    async def _move(self, deliver: Deliver) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            await self._read(deliver)

    async def _read(self, deliver: Deliver) -> None:
        chunk = self._established.rest
        with trio.CancelScope() as silence:
            silence.deadline = trio.current_time() + SILENCE_S
            while True:
                if self._hear(chunk, deliver):
                    now = trio.current_time()
                    if silence.deadline < now + SILENCE_S:
                        silence.deadline = now + SILENCE_S + SILENCE_STEP_S
                try:
                    chunk = bytes(await self._stream.receive_some(READ_BYTES))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.close("broken")
                    return
                if not chunk:
                    self.close("hung-up")
                    return
        if silence.cancelled_caught:
            self.close("silent")

    async def _write(self) -> None:
        while True:
            if not self._outbox:
                self._queued = trio.Event()
                with trio.move_on_after(KEEPALIVE_S):
                    await self._queued.wait()
            with trio.move_on_after(STALL_S) as stall:
                try:
                    await self._stream.send_all(self._next_frame())
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.close("broken")
                    return
            if stall.cancelled_caught:
                self.close("stalled")
                return
            if self._outbox_bytes < OUTBOX_BYTES_LOW:
                self._on_low()
