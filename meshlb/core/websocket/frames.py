"""Frame boundaries of a WebSocket (RFC 6455 section 5), and the frame that closes one politely.

Owns just enough of the framing to know where a frame ends: there, and nowhere else, a proxy may
put a Close frame of its own into a stream that is not its own. It reads no payload, checks no
masking or opcodes, and knows nothing of extensions.
"""

import enum

CLOSE_OPCODE = 0x8
CONTROL_PAYLOAD_BYTES_MAX = 125
MASK_BYTES = 4

_FIN = 0x80
_MASKED = 0x80
_HEADER_BYTES_MIN = 2
_HEADER_BYTES_MAX = 14
_LENGTH_IN_16_BITS = 126
_LENGTH_IN_64_BITS = 127


class CloseCode(enum.IntEnum):
    """Why the proxy closes a WebSocket (RFC 6455 7.4.1 and the IANA registry)."""

    GOING_AWAY = 1001
    SERVICE_RESTART = 1012
    """Come back at once: clients reconnect with their cookie and find their backend."""


class FrameTracker:
    """Follows one direction of a WebSocket from its first byte on.

    Attributes:
        closing: a Close frame has begun; nothing may be sent behind it.
    """

    __slots__ = ("_header", "_left_bytes", "closing")

    def __init__(self) -> None:
        self.closing = False
        self._header = b""
        self._left_bytes = 0

    @property
    def at_boundary(self) -> bool:
        """Whether the last byte fed was the last one of a frame."""
        return not self._left_bytes and not self._header

    def feed(self, piece: bytes) -> int:
        """Follow `piece`, the next bytes of the stream.

        Returns:
            How many of its bytes come up to and including the end of the last frame that ends
            in it; -1 if none does.
        """
        boundary = -1
        position = 0
        size = len(piece)
        while position < size:
            if self._left_bytes:
                passed = min(self._left_bytes, size - position)
                self._left_bytes -= passed
                position += passed
            else:
                position = self._read_header(piece, position)
            if self.at_boundary:
                boundary = position
        return boundary

    def _read_header(self, piece: bytes, position: int) -> int:
        """Read a frame's header, or what there is of it; afterwards the payload is what is left."""
        begun = len(self._header)
        header = self._header + piece[position : position + _HEADER_BYTES_MAX - begun]
        wanted = _header_bytes(header[1]) if len(header) > 1 else _HEADER_BYTES_MIN
        if len(header) < wanted:
            self._header = header
            return len(piece)
        self._header = b""
        self._left_bytes = _payload_bytes(header)
        if header[0] & 0x0F == CLOSE_OPCODE:
            self.closing = True
        return position + wanted - begun


def close_frame(code: CloseCode, reason: str = "", *, mask: bytes | None = None) -> bytes:
    """A Close frame.

    Args:
        code: why.
        reason: for people; at most 123 bytes of UTF-8.
        mask: 4 random bytes towards a backend; None towards a client, whose frames come unmasked.
    """
    payload = code.to_bytes(2) + reason.encode()
    assert len(payload) <= CONTROL_PAYLOAD_BYTES_MAX
    if mask is None:
        return bytes((_FIN | CLOSE_OPCODE, len(payload))) + payload
    assert len(mask) == MASK_BYTES
    masked = bytes(byte ^ mask[index % MASK_BYTES] for index, byte in enumerate(payload))
    return bytes((_FIN | CLOSE_OPCODE, _MASKED | len(payload))) + mask + masked


def _header_bytes(second: int) -> int:
    """How long the header is, by its second byte."""
    length = second & ~_MASKED
    extra = {_LENGTH_IN_16_BITS: 2, _LENGTH_IN_64_BITS: 8}.get(length, 0)
    return _HEADER_BYTES_MIN + extra + (MASK_BYTES if second & _MASKED else 0)


def _payload_bytes(header: bytes) -> int:
    length = header[1] & ~_MASKED
    if length == _LENGTH_IN_16_BITS:
        return int.from_bytes(header[2:4])
    if length == _LENGTH_IN_64_BITS:
        return int.from_bytes(header[2:10])
    return length
