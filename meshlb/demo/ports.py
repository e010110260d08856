"""Free ports on loopback, readable ones first."""

import socket
from typing import Final

from meshlb.errors import ListenError

PORTS_TRIED_MAX: Final = 2_000
LOOPBACK: Final = "127.0.0.1"


class Ports:
    """Hands out ports that nobody uses, each once."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self, first: int) -> int:
        """The first free port from `first` upwards.

        Raises:
            ListenError: there is none among the next `PORTS_TRIED_MAX`.
        """
        for port in range(first, min(first + PORTS_TRIED_MAX, 65_536)):
            if port not in self._given and is_free(port):
                self._given.add(port)
                return port
        raise ListenError(f"no free port on {LOOPBACK} from {first} upwards")


def is_free(port: int) -> bool:
    """Whether `port` can be bound on loopback, by TCP and UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as trial:
            if kind is socket.SOCK_STREAM:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((LOOPBACK, port))
                if kind is socket.SOCK_STREAM:
                    trial.listen(1)
            except OSError:
                return False
    return True
