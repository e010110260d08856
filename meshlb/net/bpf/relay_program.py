"""The program of the kernel relay: whatever one socket of a pair receives, the other one sends.

Owns the program, its maps and the state that it shares with user space, a row for each socket.
Sockets stand in pairs of places: 2n and 2n + 1 are each other's peer. It does not know what a
tunnel is, nor when bytes may be relayed: that is for who writes the rows (`proxy.relayed_end`).

The program runs for each piece that a socket has received, under that socket's lock:

    a piece of no bytes (a FIN)                → dropped: the socket knows that it has ended
    PASSED ≠ FORWARDED: user space still has
      bytes that come before these             → user space, PASSED grows
    REDIRECTED ≥ LIMIT                         → user space, PASSED grows
    the peer cannot send                       → user space, PASSED grows
    else                                       → the peer's send queue, REDIRECTED grows

A FIN must not go on: redirected, or passed while the socket's own queue is not empty, the kernel
takes it for a write that failed, and stops sending from that queue.

User space is told through the ring, once until it lowers NOTICED again, when a piece was passed
to it, and when REDIRECTED has reached LOW.
"""

import mmap
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Final, Self

from meshlb.net.bpf import calls
from meshlb.net.bpf.assembly import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
    WORD,
    Assembly,
)
from meshlb.net.bpf.calls import BpfError, Elements
from meshlb.net.bpf.ring import RECORD_BYTES, Ring

REDIRECTED, PASSED, FORWARDED, LIMIT, LOW, NOTICED = range(6)
"""The columns of a row, 8 bytes each. The program writes the first two and, to 1, the last;
user space writes the others, and NOTICED to 0. Whoever changes them changes what one process says
to the next one (`node.upgrading.CONVERSATION`)."""

COLUMNS: Final = 6

_MAP_LOOK_UP, _SOCKET_COOKIE, _REDIRECT, _RING_OUTPUT = 1, 46, 52, 130
"""The kernel's functions by number."""

_SK_DROP, _SK_PASS = 0, 1
_SO_COOKIE: Final = 57
_LENGTH_OFFSET: Final = 0  # of __sk_buff


class RelayProgram:
    """The loaded program and its maps; `close` releases all that this process holds of them.

    It works for the seated sockets while any process has the maps open.

    Attributes:
        pairs_max: there is room for so many.
        rows: the shared state; column c of place p is at `p * COLUMNS + c`.
        ring_fd: readable while user space has been told something.
    """

    def __init__(self, pairs_max: int) -> None:
        """Load it.

        Raises:
            BpfError: the kernel does not have what it takes, or does not allow it.
        """
        self.pairs_max = pairs_max
        places = 2 * pairs_max
        self._fds: list[int] = []
        try:
            places_fd = self._own(
                calls.create_map(
                    calls.HASH,
                    key_bytes=8,
                    value_bytes=4,
                    entries_max=places,
                    flags=calls.NO_PREALLOCATION,
                )
            )
            rows_fd = self._own(
                calls.create_map(
                    calls.ARRAY,
                    key_bytes=4,
                    value_bytes=8 * COLUMNS,
                    entries_max=places,
                    flags=calls.MMAPABLE,
                )
            )
            sockets_fd = self._own(
                calls.create_map(calls.SOCKMAP, key_bytes=4, value_bytes=4, entries_max=places)
            )
            ring_fd = self._own(
                calls.create_map(
                    calls.RING_BUFFER,
                    key_bytes=0,
                    value_bytes=0,
                    entries_max=ring_size_bytes(places),
                )
            )
            program_fd = self._own(
                calls.load_program(instructions(places_fd, rows_fd, sockets_fd, ring_fd))
            )
            calls.attach_program(sockets_fd, program_fd)
        except BpfError:
            self._close_fds()
            raise
        self._open_maps()

    @classmethod
    def adopted(cls, pairs_max: int, fds: Sequence[int]) -> Self:
        """Go on with that of another process, which touches it no more.

        Args:
            pairs_max: as it was made with.
            fds: its `shared_fds`, as this process has them, which owns them from now on.

        Raises:
            BpfError: they cannot be mapped, and are closed.
        """
        program = cls.__new__(cls)
        program.pairs_max = pairs_max
        program._fds = list(fds)
        program._open_maps()
        return program

    @property
    def shared_fds(self) -> tuple[int, int, int, int]:
        """What another process needs to go on with it."""
        places_fd, rows_fd, sockets_fd, ring_fd, *_ = self._fds
        return places_fd, rows_fd, sockets_fd, ring_fd

    def _open_maps(self) -> None:
        places = 2 * self.pairs_max
        places_fd, rows_fd, sockets_fd, self.ring_fd = self.shared_fds
        try:
            self._ring = Ring(self.ring_fd, ring_size_bytes(places))
            self._memory = mmap.mmap(rows_fd, _whole_pages(places * COLUMNS * 8))
        except OSError as error:
            self._close_fds()
            raise BpfError(f"cannot map the state of the relay: {error.strerror}") from error
        self.rows = memoryview(self._memory).cast("Q")
        self._places = Elements(places_fd, key_bytes=8, value_bytes=4)
        self._sockets = Elements(sockets_fd, key_bytes=4, value_bytes=4)

    def seat(self, place: int, sock: socket.socket) -> None:
        """Put a socket into a place, whose row is cleared: what it receives is passed so far.

        Raises:
            BpfError: it cannot be relayed, and nothing about it has changed.
        """
        start = place * COLUMNS
        self.rows[start : start + COLUMNS] = _CLEARED
        cookie = socket_cookie(sock)
        self._places.put(cookie, place)
        try:
            self._sockets.put(place, sock.fileno())
        except BpfError:
            self._places.drop(cookie)
            raise

    def unseat(self, sock: socket.socket) -> None:
        """Forget a socket, right before it is closed: closing empties its place."""
        self._places.drop(socket_cookie(sock))

    def notices(self) -> Iterator[int]:
        """The places that user space was told of since the last time."""
        return self._ring.take()

    def close(self) -> None:
        """Release everything; sockets that are still seated lose what is under way."""
        self.rows.release()
        self._memory.close()
        self._ring.close()
        self._close_fds()

    def _own(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _close_fds(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


_CLEARED: Final = memoryview(bytes(8 * COLUMNS)).cast("Q")


def socket_cookie(sock: socket.socket) -> int:
    """The number that the kernel gives to a socket; none is ever used twice."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), _BYTE_ORDER)


_BYTE_ORDER: Final = sys.byteorder


def ring_size_bytes(places: int) -> int:
    """Room for a notice from every place, so that none is ever lost."""
    size_bytes = mmap.PAGESIZE
    while size_bytes < places * RECORD_BYTES:
        size_bytes *= 2
    return size_bytes


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


_COOKIE_SLOT, _PLACE_SLOT, _NOTICE_SLOT = -8, -12, -24
"""On the program's stack."""


def instructions(places_fd: int, rows_fd: int, sockets_fd: int, ring_fd: int) -> bytes:
    """The program; see the module's docstring. Kept: R6 context, R7 place, R8 row, R9 length."""
    a = Assembly()
    a.move(R6, R1)
    _find_row(a, places_fd, rows_fd)
    a.load(R9, R6, _LENGTH_OFFSET, WORD)
    a.jump_if_number(R9, 0, "drop")
    _redirect(a, sockets_fd)
    a.jump("done")
    a.label("pass")
    a.load(R1, R8, PASSED * 8)
    a.add(R1, R9)
    a.store(R8, PASSED * 8, R1)
    a.label("tell")
    _tell(a, ring_fd)
    a.label("done")
    a.set(R0, _SK_PASS)
    a.exit()
    a.label("drop")
    a.set(R0, _SK_DROP)
    a.exit()
    return a.assemble()


def _find_row(a: Assembly, places_fd: int, rows_fd: int) -> None:
    a.call(_SOCKET_COOKIE)
    a.store(R10, _COOKIE_SLOT, R0)
    a.set_map(R1, places_fd)
    a.move(R2, R10)
    a.add_number(R2, _COOKIE_SLOT)
    a.call(_MAP_LOOK_UP)
    a.jump_if_number(R0, 0, "done")
    a.load(R7, R0, 0, WORD)
    a.store(R10, _PLACE_SLOT, R7, WORD)
    a.set_map(R1, rows_fd)
    a.move(R2, R10)
    a.add_number(R2, _PLACE_SLOT)
    a.call(_MAP_LOOK_UP)
    a.jump_if_number(R0, 0, "done")
    a.move(R8, R0)


def _redirect(a: Assembly, sockets_fd: int) -> None:
    """Go on at "pass" if that may not be, at "tell" if user space has to know of it."""
    a.load(R1, R8, PASSED * 8)
    a.load(R2, R8, FORWARDED * 8)
    a.jump_unless_equal(R1, R2, "pass")
    a.load(R1, R8, REDIRECTED * 8)
    a.load(R2, R8, LIMIT * 8)
    a.jump_if_at_least(R1, R2, "pass")
    a.move(R1, R6)
    a.set_map(R2, sockets_fd)
    a.move(R3, R7)
    a.xor_number(R3, 1)
    a.set(R4, 0)
    a.call(_REDIRECT)
    a.jump_unless_number(R0, _SK_PASS, "pass")
    a.load(R1, R8, REDIRECTED * 8)
    a.add(R1, R9)
    a.store(R8, REDIRECTED * 8, R1)
    a.load(R2, R8, LOW * 8)
    a.jump_if_at_least(R1, R2, "tell")


def _tell(a: Assembly, ring_fd: int) -> None:
    a.load(R1, R8, NOTICED * 8)
    a.jump_unless_number(R1, 0, "done")
    a.store_number(R8, NOTICED * 8, 1)
    a.store(R10, _NOTICE_SLOT, R7)
    a.set_map(R1, ring_fd)
    a.move(R2, R10)
    a.add_number(R2, _NOTICE_SLOT)
    a.set(R3, 8)
    a.set(R4, 0)
    a.call(_RING_OUTPUT)
    a.jump_if_number(R0, 0, "done")
    a.store_number(R8, NOTICED * 8, 0)
