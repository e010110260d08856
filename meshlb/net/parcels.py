"""Parcels: facts and descriptors, sent one after the other over a Unix stream socket.

Owns the frame and its limits. What the facts mean is for both ends to know. A frame is its size
and the number of its descriptors, then the facts; the kernel delivers descriptors with the first
byte of what they were sent with, and never reads on beyond it, so that they are here with the
header.
"""

import array
import contextlib
import io
import os
import socket
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import msgpack
import trio

from meshlb.errors import HandOverError

PARCEL_BYTES_MAX: Final = 64 << 20
DESCRIPTORS_MAX: Final = 250
"""The kernel takes 253."""

_HEADER: Final = struct.Struct("<IH")
_FD_BYTES: Final = array.array("i").itemsize
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(DESCRIPTORS_MAX * _FD_BYTES)
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Parcel:
    """Who receives it owns its sockets; who sends it keeps its own."""

    what: str
    facts: Any = None
    sockets: Sequence[socket.socket] = field(default=())
    files: Sequence[io.FileIO] = field(default=())
    """Descriptors that are no sockets."""

    def close(self) -> None:
        """Nobody wants what is in it."""
        for sock in self.sockets:
            sock.close()
        for file in self.files:
            file.close()


class ParcelService:
    """One end of a socket pair; owns it."""

    def __init__(self, sock: socket.socket) -> None:
        """Own a connected Unix stream socket."""
        sock.setblocking(False)
        self._sock = trio.socket.from_stdlib_socket(sock)

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """One end, and the socket of the other one, for another process."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(here), there

    def close(self) -> None:
        """Hang up; closing twice does no harm."""
        self._sock.close()

    async def send(self, parcel: Parcel) -> None:
        """Send, waiting for the other end to make room.

        Raises:
            HandOverError: the other end is gone.
        """
        owners: list[socket.socket | io.FileIO] = [*parcel.sockets, *parcel.files]
        assert len(owners) <= DESCRIPTORS_MAX
        content = msgpack.packb([parcel.what, parcel.facts])
        assert len(content) <= PARCEL_BYTES_MAX
        header = _HEADER.pack(len(content), len(owners))
        fds = array.array("i", [owner.fileno() for owner in owners])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        try:
            sent = await self._sock.sendmsg([header], ancillary)
            rest = memoryview(header[sent:] + content)
            while rest:
                rest = rest[await self._sock.send(rest) :]
        except (OSError, trio.ClosedResourceError) as error:
            raise HandOverError(f"the other process is gone: {error}") from error

    async def receive(self) -> Parcel:
        """The next parcel; the caller owns its sockets.

        Raises:
            HandOverError: the other end is gone, or sends what is no parcel.
        """
        fds: list[int] = []
        try:
            header = await self._receive_header(fds)
            size, count = _HEADER.unpack(header)
            if size > PARCEL_BYTES_MAX or count != len(fds):
                raise HandOverError("the other process sent no parcel")
            what, facts = _read(await self._receive_exactly(size))
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, OSError | trio.ClosedResourceError):
                raise HandOverError(f"the other process is gone: {error}") from error
            raise
        are_sockets = {fd: stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in fds}
        return Parcel(
            str(what),
            facts,
            [_adopted(fd) for fd in fds if are_sockets[fd]],
            [io.FileIO(fd) for fd in fds if not are_sockets[fd]],
        )

    async def expect(self, what: str) -> Parcel:
        """The next parcel, which is about `what`.

        Raises:
            HandOverError: it is about something else; or as for `receive`.
        """
        parcel = await self.receive()
        if parcel.what != what:
            parcel.close()
            raise HandOverError(f"the other process said {parcel.what}, and not {what}")
        return parcel

    async def _receive_header(self, fds: list[int]) -> bytes:
        header = b""
        while len(header) < _HEADER.size:
            piece, ancillary, _, _ = await self._sock.recvmsg(
                _HEADER.size - len(header), _ANCILLARY_BYTES
            )
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    whole = len(content) - len(content) % _FD_BYTES
                    fds += array.array("i", content[:whole])
            if not piece:
                raise HandOverError("the other process has hung up")
            header += piece
        return header

    async def _receive_exactly(self, size_bytes: int) -> bytes:
        content = bytearray()
        while len(content) < size_bytes:
            piece = await self._sock.recv(min(size_bytes - len(content), _READ_BYTES))
            if not piece:
                raise HandOverError("the other process has hung up")
            content += piece
        return bytes(content)


def _read(content: bytes) -> tuple[object, Any]:
    try:
        what, facts = msgpack.unpackb(content)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise HandOverError("the other process sent no parcel") from error
    return what, facts


def _adopted(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    with contextlib.suppress(OSError):
        sock.setblocking(False)
    return sock
