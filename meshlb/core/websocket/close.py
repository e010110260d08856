"""The frame that ends a WebSocket politely (RFC 6455 section 5.5.1).

Owns its bytes. Where it may be put into a stream is for whoever does.
"""

import enum

CONTROL_PAYLOAD_BYTES_MAX = 125
MASK_BYTES = 4

_CLOSE_OPCODE = 0x8
_FIN = 0x80
_MASKED = 0x80


class CloseCode(enum.IntEnum):
    """Why the proxy closes a WebSocket (RFC 6455 7.4.1 and the IANA registry)."""

    GOING_AWAY = 1001
    """The node leaves."""
    SERVICE_RESTART = 1012
    """Come back at once: clients reconnect with their cookie and find their backend."""


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
        return bytes((_FIN | _CLOSE_OPCODE, len(payload))) + payload
    assert len(mask) == MASK_BYTES
    masked = bytes(byte ^ mask[index % MASK_BYTES] for index, byte in enumerate(payload))
    return bytes((_FIN | _CLOSE_OPCODE, _MASKED | len(payload))) + mask + masked
