"""Whether this kernel relays tunnels as the kernel relay needs it: found out by relaying one.

Owns a transfer over loopback that takes milliseconds. Capabilities and versions say too little:
what counts is how the kernel treats bytes that came early, a FIN, and its own counters.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from meshlb.net.bpf.calls import BpfError
from meshlb.net.bpf.relay_program import COLUMNS, FORWARDED, LIMIT, PASSED, RelayProgram

PROBE_S_MAX: Final = 1.0
"""How long each step may take; on a machine that works it is a millisecond."""

_POLL_S: Final = 0.001
_EARLY, _PING, _PONG = b"early", b"ping" * 1_000, b"pong" * 1_000


def probe() -> None:
    """Relay a few bytes in all ways that matter.

    Raises:
        BpfError: the kernel relay cannot be used here, and why.
    """
    with ExitStack() as stack:
        try:
            program = RelayProgram(1)
            stack.callback(program.close)
            client, near_client = stack.enter_context(_connection())
            backend, near_backend = stack.enter_context(_connection())
            client.sendall(_EARLY)
            program.seat(0, near_client)
            program.seat(1, near_backend)
            _relay(program, client, near_client, backend)
        except OSError as error:
            raise BpfError(f"a relayed connection failed: {error.strerror or error}") from error


def _relay(
    program: RelayProgram, client: socket.socket, near: socket.socket, backend: socket.socket
) -> None:
    rows = program.rows
    if _read(near, len(_EARLY)) != _EARLY or rows[PASSED] != len(_EARLY):
        raise BpfError("this kernel does not count what a socket had received before")
    rows[FORWARDED] = len(_EARLY)
    rows[LIMIT] = rows[COLUMNS + LIMIT] = 1 << 32
    for sender, receiver, message in ((client, backend, _PING), (backend, client, _PONG)):
        sender.sendall(message)
        if _read(receiver, len(message)) != message:
            raise BpfError("this kernel does not relay what it was told to")
    client.shutdown(socket.SHUT_WR)
    if _read(near, 1) != b"":
        raise BpfError("this kernel does not report the end of a relayed connection")
    backend.sendall(_PONG)
    if _read(client, len(_PONG)) != _PONG:
        raise BpfError("this kernel ends both directions of a relayed connection at once")
    if rows[PASSED] != len(_EARLY):
        raise BpfError("this kernel gives relayed bytes to user space too")


@contextmanager
def _connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection over loopback, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname(), timeout=PROBE_S_MAX)
        with far:
            near, _ = server.accept()
            with near:
                far.settimeout(PROBE_S_MAX)
                near.setblocking(False)
                yield far, near


def _read(sock: socket.socket, size: int) -> bytes:
    """`size` bytes; fewer where the end, or the end of patience, comes before."""
    received = bytearray()

    def is_over() -> bool:
        try:
            chunk = sock.recv(size - len(received))
        except (BlockingIOError, TimeoutError):
            return False
        received.extend(chunk)
        return not chunk or len(received) == size

    if not _wait(is_over):
        raise BpfError("this kernel holds relayed bytes back")
    return bytes(received)


def _wait(condition: Callable[[], bool]) -> bool:
    give_up_at = time.monotonic() + PROBE_S_MAX
    while not condition():
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(_POLL_S)
    return True
