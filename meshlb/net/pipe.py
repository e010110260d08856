"""A pipe through which bytes go from one socket to another without being copied.

Owns the pipe of one process and what splice(2) does with it. It is empty between two calls: what
the target does not take at once is read out of the pipe and given back. So one pipe serves all
connections, a stalled one holds none of it, and nothing is in it that another process would need.
Must not know who is connected to whom.
"""

import contextlib
import fcntl
import os
import sys
from typing import Final

CARRY_BYTES_MAX: Final = 256 << 10
"""The most that one `carry` moves; more of it would not stay in the cache of a core."""

_PIPE_BYTES: Final = 1 << 20
"""What an unprivileged process may have. Each page of it holds one piece of what came, however
small, so it has to be larger than what is moved."""


class Pipe:
    """Of one process; `close` releases it."""

    def __init__(self) -> None:
        self._exit, self._entry = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # Less room is less per call, and no harm.
            fcntl.fcntl(self._entry, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def carry(self, source_fd: int, target_fd: int) -> tuple[int, bytes]:
        """Move what one socket has received into the other one; both must not block.

        Returns:
            How many bytes were taken from the source, none at its end; and the last of them, which
            the target did not take.

        Raises:
            BlockingIOError: the source has nothing just now.
            OSError: one of the two is broken, and what was under way is lost.
        """
        taken = left = os.splice(source_fd, self._entry, CARRY_BYTES_MAX, flags=_FLAGS)
        try:
            while left:
                left -= os.splice(self._exit, target_fd, left, flags=_FLAGS)
        except BlockingIOError:
            return taken, os.read(self._exit, left)
        except OSError:
            os.read(self._exit, left)
            raise
        return taken, b""

    def close(self) -> None:
        """Give both descriptors back."""
        os.close(self._exit)
        os.close(self._entry)


def open_pipe() -> Pipe | None:
    """A pipe; None on systems that cannot splice."""
    return Pipe() if sys.platform == "linux" and hasattr(os, "splice") else None


_FLAGS: Final = 1 | 2  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK
