"""A process that a member starts: `python -m meshlb.workers FD MEMBER LEVEL FORMAT`."""

import ctypes
import gc
import os
import signal
import socket
import sys
from typing import Final

import trio

from meshlb import logs
from meshlb.workers.process import serve

_PR_SET_PDEATHSIG: Final = 1


def main(fd: str, member: str, level: str, form: str) -> None:
    """Work until the process `member` ends, or its end of the socket `fd`."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _die_with(int(member))
    logs.configure(level=level, form=form)
    gc.collect()
    gc.freeze()
    trio.run(serve, socket.socket(fileno=int(fd)))


def _die_with(member: int) -> None:
    """A stopped worker does not read the end of its socket; the kernel ends it all the same."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return  # Not Linux: the end of the socket has to do.
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != member:
        sys.exit(1)  # The member was gone before that.


if __name__ == "__main__":
    main(*sys.argv[1:])
