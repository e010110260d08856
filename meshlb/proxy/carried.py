"""What of a tunnel travels to another process: its two ends, each with its place in the kernel.

Owns no more than these values; who moves them is `handover`, and who goes on is `relays`.
"""

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a socket sits in the kernel relay of another process."""

    relay: str
    place: int
    passed_bytes: int
    """What was passed to user space there, and read."""


@dataclass(frozen=True, slots=True)
class Carried:
    """One end of a tunnel on its way to another process."""

    sock: socket.socket
    backlog: bytes
    ended: bool
    shut: bool
    silent_s: float
    """Since the last byte."""
    seat: Seat | None = None
