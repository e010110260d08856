"""Loopback ports for one test run, outside the range that the kernel hands to clients."""

import random
import socket

_FIRST, _LAST = 20_000, 31_000
_taken: set[int] = set()


def free_port() -> int:
    """A port that is free for TCP and UDP now, and never returned twice in this process."""
    while True:
        port = random.randint(_FIRST, _LAST)
        if port not in _taken and _is_free(port):
            _taken.add(port)
            return port


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
