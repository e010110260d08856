"""The opening handshake of a WebSocket (RFC 6455 section 4), over HTTP/1.1.

Owns what makes a request an opening handshake and a 101 its acceptance. It must not know what
else a head says; `core.http` passes in the values of the fields it found.
"""

import re

WEBSOCKET = b"websocket"
_is_key = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==").fullmatch


def is_opening(
    *, upgrade: list[bytes], connection: list[bytes], keys: list[bytes], versions: list[bytes]
) -> bool:
    """Whether the fields of a GET ask for a WebSocket, validly.

    Args:
        upgrade: the items of Upgrade, lower-case.
        connection: the items of Connection, lower-case.
        keys: the values of Sec-WebSocket-Key.
        versions: the values of Sec-WebSocket-Version.
    """
    return (
        upgrade == [WEBSOCKET]
        and b"upgrade" in connection
        and versions == [b"13"]
        and len(keys) == 1
        and _is_key(keys[0]) is not None
    )


def is_accepting(*, upgrade: list[bytes], connection: list[bytes]) -> bool:
    """Whether the fields of a 101 switch to WebSocket; items are lower-case."""
    return upgrade == [WEBSOCKET] and b"upgrade" in connection
