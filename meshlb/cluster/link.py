"""One established stream to a member: sealed, ordered, batched, and never in anybody's way.

Owns the outbox, the frames, and when a link ends. Whatever is queued at a flush goes out as one
sealed frame. A peer that does not read until the outbox is full, stalls in the middle of a frame,
or falls silent is cut off; it resumes on a new link. Must not know what the messages mean, nor how
bytes are moved: `socket_link` has the reactor do that, `stream_link`, inside TLS, two tasks.

Spec: protocol/spec/sealing.md, "Stream frames".
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Literal

import trio

from meshlb.errors import SealError, WireError
from meshlb.model import Address, NodeName
from meshlb.wire.codec import decode, encode_message, join
from meshlb.wire.handshake import Established, Identity
from meshlb.wire.limits import FRAME_PLAIN_BYTES_MAX, MESSAGES_PER_FRAME_MAX
from meshlb.wire.messages import STREAM_MESSAGES, Message

OUTBOX_BYTES_MAX: Final = 16 * 1024 * 1024
"""What may wait for a peer: twice the deltas of a full replication log, and a pull beside it."""

OUTBOX_BYTES_LOW: Final = 512 * 1024
"""Below this the outbox takes more of what can wait, such as a pull."""

READ_BYTES: Final = 128 * 1024
KEEPALIVE_S: Final = 4.5
"""A link with nothing to say sends an empty batch this often: twice within `SILENCE_S`. With 32
members these are most of an idle node's packets. That a member is alive is for probes to find."""

SILENCE_S: Final = 10.0
"""Without a whole frame for so long, the link is cut; also when single bytes trickle in."""

STALL_S: Final = 10.0
"""A frame that the peer does not take within this ends the link."""

CloseReason = Literal[
    "hung-up", "broken", "silent", "stalled", "outbox-full", "malformed", "replaced", "refused",
    "gone", "key-removed", "shutdown",
]  # fmt: skip
"""Why a link ended. `gone`: the member is dead or has left. `key-removed`:
the secret that authenticated the link is none of the cluster's any more."""

CLOSE_REASONS: Final[tuple[CloseReason, ...]] = (
    "hung-up", "broken", "silent", "stalled", "outbox-full", "malformed", "replaced", "refused",
    "gone", "key-removed", "shutdown",
)  # fmt: skip

_ARRAY_HEADER_BYTES_MAX: Final = 5

Deliver = Callable[["Link", tuple[Message, ...]], None]
"""Takes the messages of one frame, or of several that have come at once."""


class Link(ABC):
    """A stream to `peer`. All but `run` is synchronous."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        established: Established,
        *,
        dialled: Address | None,
        now: float,
        on_low: Callable[[], None],
        on_unknown: Callable[[int], None] = lambda type_id: None,
    ) -> None:
        """Wrap an established stream.

        Args:
            stream: the link's from now on.
            established: what the handshake gave.
            dialled: where this node dialled; None where the peer did.
            now: monotonic seconds.
            on_low: called when what had to wait has gone out, and left the outbox below
                `OUTBOX_BYTES_LOW`.
            on_unknown: told the type id of a message that only a later version knows.
        """
        self.peer: Identity = established.peer
        self.key_id = established.key_id
        self.dialect = established.dialect
        self._kinds = established.dialect.kinds
        self.dialled = dialled
        self.opened_at = now
        self.close_reason: CloseReason | None = None
        self._on_low = on_low
        self._on_unknown = on_unknown
        self._stream = stream
        self._established = established
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._scope = trio.CancelScope()

    @property
    def name(self) -> NodeName:
        """The name of the peer."""
        return self.peer.name

    @property
    def is_open(self) -> bool:
        """False once the link has begun to end; then `send` drops what it is given."""
        return self.close_reason is None

    @property
    def outbox_bytes(self) -> int:
        """What has not been put in a frame yet; at most `OUTBOX_BYTES_MAX`."""
        return self._outbox_bytes

    @property
    def is_low(self) -> bool:
        """True where the outbox takes more of what can wait."""
        return self.is_open and self._outbox_bytes < OUTBOX_BYTES_LOW

    def takes(self, kind: type[Message]) -> bool:
        """True where the peer understands messages of `kind`; no others may be sent."""
        return kind in self._kinds

    def tell(self, *messages: Message) -> None:
        """Queue those of `messages` that the peer understands, until `flush`."""
        for message in messages:
            if type(message) in self._kinds:
                self.send(encode_message(message))

    def send(self, encoded: bytes) -> None:
        """Queue an encoded message, behind all that was queued before, until `flush`."""
        if self.close_reason is not None:
            return
        if self._outbox_bytes + len(encoded) > OUTBOX_BYTES_MAX:
            self.close("outbox-full")
            return
        self._outbox.append(encoded)
        self._outbox_bytes += len(encoded)

    def send_all(self, encoded: Collection[bytes]) -> None:
        """The same for several messages, in their order."""
        size_bytes = sum(map(len, encoded))
        if self._outbox_bytes + size_bytes > OUTBOX_BYTES_MAX:
            self.close("outbox-full")
        if self.close_reason is None:
            self._outbox += encoded
            self._outbox_bytes += size_bytes

    @abstractmethod
    def flush(self) -> None:
        """Let out what is queued, as soon as there is room for it."""

    def close(self, reason: CloseReason) -> None:
        """End the link; the first reason counts."""
        if self.close_reason is None:
            self.close_reason = reason
            self._outbox.clear()
            self._outbox_bytes = 0
            self._scope.cancel()

    async def run(self, deliver: Deliver) -> CloseReason:
        """Move bytes until the link ends; the stream is closed then. Returns why."""
        try:
            with self._scope:
                await self._move(deliver)
        finally:
            self.close("shutdown")
            await trio.aclose_forcefully(self._stream)
        assert self.close_reason is not None
        return self.close_reason

    @abstractmethod
    async def _move(self, deliver: Deliver) -> None:
        """Read and write until the link is closed, which cancels this."""

    def _hear(self, chunk: bytes, deliver: Deliver) -> bool:
        """Bytes have come; True where they completed a frame."""
        heard: list[Message] = []
        has_frame = is_malformed = False
        try:
            for plain in self._established.opener.receive(chunk):
                messages = decode(plain, self._on_unknown)
                if not STREAM_MESSAGES.issuperset(map(type, messages)):
                    raise WireError("a message that does not belong on a stream")
                has_frame = True
                heard += messages
        except (SealError, WireError):
            is_malformed = True
        if heard:
            deliver(self, tuple(heard))
        if is_malformed:
            self.close("malformed")
        return has_frame

    def _next_frame(self) -> bytes:
        return self._established.sealer.seal(join(self._take()))

    def _take(self) -> list[bytes]:
        """What fits one frame, from the front of the outbox."""
        room = FRAME_PLAIN_BYTES_MAX - _ARRAY_HEADER_BYTES_MAX
        outbox = self._outbox
        if self._outbox_bytes <= room and len(outbox) <= MESSAGES_PER_FRAME_MAX:
            everything = list(outbox)
            outbox.clear()
            self._outbox_bytes = 0
            return everything
        batch: list[bytes] = []
        while outbox and len(outbox[0]) <= room and len(batch) < MESSAGES_PER_FRAME_MAX:
            encoded = outbox.popleft()
            room -= len(encoded)
            batch.append(encoded)
        self._outbox_bytes -= FRAME_PLAIN_BYTES_MAX - _ARRAY_HEADER_BYTES_MAX - room
        return batch
