"""A Unix socket between a member and a worker: messages in batches, and descriptors.

Owns the frames, the queue of what is not sent yet, and the descriptors on their way. What is put
goes out with the next pass of the event loop, so all that is put in one pass is one frame and one
system call. Must not know what a message means.

A frame is its size in bytes and the number of its descriptors, then a batch. The kernel delivers
descriptors with the first byte of their frame, so they are here before it is complete.
"""

import array
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import trio

from meshlb.errors import WorkerError, WorkerGoneError
from meshlb.workers.messages import Message, decode, encode

OUTBOX_BYTES_MAX: Final = 16 << 20
"""What may wait for the other end to read it; beyond, it is taken to be stuck."""

FRAME_BYTES_MAX: Final = 256 << 10
"""Messages are gathered up to this size; a larger one is a frame by itself."""

MESSAGE_BYTES_MAX: Final = 64 << 20
"""The settings of thousands of backends; a frame beyond is an error of the other end."""

FDS_PER_FRAME_MAX: Final = 250
"""The kernel takes 253."""

_READ_BYTES: Final = 256 << 10
_HEADER: Final = struct.Struct("<IH")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(FDS_PER_FRAME_MAX * array.array("i").itemsize)


class Channel:
    """One end. It owns the socket, and the descriptors that have come until they are taken."""

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False) -> None:
        """Use a connected stream socket.

        Args:
            sock: one of a pair.
            takes_fds: descriptors may come; what comes otherwise is dropped by the kernel.
        """
        sock.setblocking(False)
        self._sock = sock
        self._takes_fds = takes_fds
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._queued_bytes = 0
        self._sending = memoryview(b"")
        self._sending_fds: list[int] = []
        self._work = trio.Event()
        self._buffer = bytearray()
        self._came: deque[int] = deque()

    @property
    def outbox_bytes(self) -> int:
        """What was put and not sent yet."""
        return self._queued_bytes + len(self._sending)

    def put(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send soon; `fds` are duplicated now, so the caller may close its own.

        Raises:
            WorkerError: the other end does not read; the message is lost.
        """
        if self.outbox_bytes > OUTBOX_BYTES_MAX:
            raise WorkerError("the other process does not read what it is told")
        assert len(fds) <= FDS_PER_FRAME_MAX
        encoded = encode(message)
        self._queue.append((encoded, [os.dup(fd) for fd in fds]))
        self._queued_bytes += len(encoded)
        self._work.set()

    async def send_all(self) -> None:
        """Send what is put, until cancelled.

        Raises:
            WorkerGoneError: the other end is.
        """
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while self._send_some():
                await trio.lowlevel.wait_writable(self._sock)

    def _send_some(self) -> bool:
        """Send until the kernel takes no more; True where something is left."""
        while self._sending or self._queue:
            if not self._sending:
                self._next_frame()
            try:
                sent = self._send_once()
            except BlockingIOError:
                return True
            except OSError as error:
                raise WorkerGoneError("the other process is gone") from error
            self._sending = self._sending[sent:]
        return False

    def _send_once(self) -> int:
        if not self._sending_fds:
            return self._sock.send(self._sending)
        sent = socket.send_fds(self._sock, [self._sending], self._sending_fds)
        _close_all(self._sending_fds)
        self._sending_fds = []
        return sent

    def _next_frame(self) -> None:
        """What waits, as far as it goes into one frame; what brings descriptors goes alone."""
        encoded, self._sending_fds = self._queue.popleft()
        batch, size = [encoded], len(encoded)
        while self._queue and not self._sending_fds and not self._queue[0][1]:
            size += len(self._queue[0][0])
            if size > FRAME_BYTES_MAX:
                break
            batch.append(self._queue.popleft()[0])
        body = b"".join(batch)
        self._queued_bytes -= len(body)
        self._sending = memoryview(_HEADER.pack(len(body), len(self._sending_fds)) + body)

    async def receive(self) -> list[Message]:
        """The next batches, once there is a whole one; their descriptors are for `take_fds`.

        Raises:
            WorkerGoneError: the other end is.
            WorkerError: it makes no sense.
        """
        while not (frames := self._frames()):
            await trio.lowlevel.wait_readable(self._sock)
            self._read()
        return [message for frame in frames for message in decode(frame)]

    def _read(self) -> None:
        try:
            if self._takes_fds:
                chunk, ancillary, _, _ = self._sock.recvmsg(
                    _READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
                )
                self._came.extend(_fds_in(ancillary))
            else:
                chunk = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise WorkerGoneError("the other process is gone") from error
        if not chunk:
            raise WorkerGoneError("the other process is gone")
        self._buffer += chunk

    def _frames(self) -> list[bytes]:
        frames: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            size, _ = _HEADER.unpack_from(self._buffer, start)
            if size > MESSAGE_BYTES_MAX:
                raise WorkerError("a frame of the other process is too large")
            begin = start + _HEADER.size
            if len(self._buffer) < begin + size:
                break
            start = begin + size
            frames.append(bytes(self._buffer[begin:start]))
        if start:
            del self._buffer[:start]
        return frames

    def take_fds(self, count: int) -> list[int]:
        """The next `count` descriptors that have come; they are the caller's.

        Raises:
            WorkerError: there are not so many.
        """
        if len(self._came) < count:
            raise WorkerError("descriptors are missing")
        return [self._came.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close the socket and every descriptor that was not taken or sent."""
        self._sock.close()
        _close_all(self._came)
        _close_all(self._sending_fds)
        for _, fds in self._queue:
            _close_all(fds)
        self._came.clear()
        self._queue.clear()
        self._sending_fds = []


def _fds_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return list(fds)


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
