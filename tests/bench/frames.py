"""One fixed WebSocket message in both directions, so that echo and load cost next to nothing.

The client's frames are masked with zeros (which leaves the payload as it is), so the backend
turns one into its answer by cutting four bytes. Real clients and real frames are the business of
`tests/peers`.
"""

import base64
import hashlib
import os

PAYLOAD = bytes(64)
FROM_CLIENT = bytes((0x82, 0x80 | len(PAYLOAD))) + bytes(4) + PAYLOAD
FROM_BACKEND = bytes((0x82, len(PAYLOAD))) + PAYLOAD

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def upgrade_request(path: str = "/echo") -> bytes:
    """The opening handshake of a client that has been here: nginx goes by its cookie."""
    key = base64.b64encode(os.urandom(16))
    return (
        b"GET %b HTTP/1.1\r\nHost: app.test\r\nCookie: lb=%b\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
        % (path.encode(), os.urandom(8).hex().encode(), key)
    )


def upgrade_response(request: bytes) -> bytes:
    """The backend's answer to an opening handshake."""
    fields = (line.partition(b":") for line in request.split(b"\r\n"))
    key = next(value.strip() for name, _, value in fields if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
