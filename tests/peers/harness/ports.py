"""Loopback ports for tests, outside the range that the kernel hands to clients.

Tests run in several processes at a time, and a port is free until the child that is to have it
has bound it; so each is reserved, under a name that all processes of the machine share and that
goes with the process.
"""

import random
import socket

_FIRST, _LAST = 20_000, 31_000
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port that is free for TCP and UDP now, and that no other test process is given."""
    while True:
        port = random.randint(_FIRST, _LAST)
        if _is_free(port) and _reserve(port):
            return port


def _reserve(port: int) -> bool:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0meshlb-test-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
