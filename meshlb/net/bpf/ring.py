"""A BPF ring buffer as its one reader sees it: whole numbers that a program has written.

Owns the mappings and the reader's position (Linux, Documentation/bpf/ringbuf.rst). The map's
descriptor is readable while something is in the ring. It does not know what the numbers mean.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import Final

RECORD_BYTES: Final = 16
"""What one number takes in the ring, its header included."""

_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEADER_AND_NUMBER: Final = struct.Struct("=IIQ")
_POSITION: Final = struct.Struct("=Q")


class Ring:
    """Of `size_bytes`, a power of two and a multiple of the page size; `close` unmaps it."""

    def __init__(self, map_fd: int, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._reader = mmap.mmap(map_fd, mmap.PAGESIZE)
        # The writer's position, then the data twice in a row, so that no record is ever split.
        self._writer = mmap.mmap(
            map_fd,
            mmap.PAGESIZE + 2 * size_bytes,
            prot=mmap.PROT_READ,
            offset=mmap.PAGESIZE,
        )

    def take(self) -> Iterator[int]:
        """Everything that is in the ring, also what comes meanwhile."""
        (place,) = _POSITION.unpack_from(self._reader, 0)
        while place < _POSITION.unpack_from(self._writer, 0)[0]:
            header, _, number = _HEADER_AND_NUMBER.unpack_from(
                self._writer, mmap.PAGESIZE + place % self._size_bytes
            )
            if header & _BUSY:
                return  # It is being written, and announced afterwards.
            place += RECORD_BYTES
            _POSITION.pack_into(self._reader, 0, place)
            if not header & _DISCARDED:
                yield number

    def close(self) -> None:
        """Unmap it; the map's descriptor stays open."""
        self._reader.close()
        self._writer.close()
