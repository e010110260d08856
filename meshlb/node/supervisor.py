"""What a supervisor such as systemd is told: that the node serves, as which process, and leaves.

Owns the words and the way to say them (sd_notify(3)): a datagram to the socket that the
environment names. Nobody there, or nobody who listens, is no fault of the node's.
"""

import contextlib
import os
import socket

PLACE = "NOTIFY_SOCKET"


def tell_ready() -> None:
    """The node serves, as this process."""
    _tell(f"READY=1\nMAINPID={os.getpid()}")


def tell_stopping() -> None:
    """The node leaves."""
    _tell("STOPPING=1")


def _tell(words: str) -> None:
    place = os.environ.get(PLACE, "")
    if place[:1] not in ("/", "@"):
        return
    address = "\0" + place[1:] if place[0] == "@" else place
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.setblocking(False)
        sock.sendto(words.encode(), address)
