"""A worker's process from the member's side: how it is started, and that it is never left behind.

Owns the command, the socket to it and its end. A process that was started knows nothing yet: what
it is to do it is told by `Setup`, so one can be kept in reserve. To load Python and this program
takes up to a second of a busy machine, and a reserve has that behind it.
"""

import os
import signal
import socket
import subprocess
import sys
from typing import Final, Self

import trio

from meshlb import logs

REAP_S: Final = 2.0
"""How long a worker that has closed its socket may take to end."""


class Hire:
    """A started process, and this end of the socket to it."""

    def __init__(self, child: "subprocess.Popen[bytes]", sock: socket.socket) -> None:
        self.sock = sock
        self._child = child

    @classmethod
    def start(cls) -> Self:
        """Start one: a fresh interpreter, for nothing of a running event loop can be forked.

        It finds modules where this process does, and nowhere else. The thread that calls this has
        to live on: with it the kernel ends the process.
        """
        ours, theirs = socket.socketpair()
        program = [sys.executable, "-P", "-m", "meshlb.workers"]
        level, form = logs.chosen["level"], logs.chosen["form"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            with theirs:
                child = subprocess.Popen(
                    [*program, str(theirs.fileno()), str(os.getpid()), level, form],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                )
        except BaseException:
            ours.close()
            raise
        return cls(child, ours)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    async def loaded(self) -> None:
        """Return once it has loaded the program, and says so; or has ended."""
        await trio.lowlevel.wait_readable(self.sock)

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    async def reap(self) -> str:
        """Close the socket, at which it ends, and wait for that; it is killed if need be.

        Returns:
            How it has ended, for people.
        """
        self.sock.close()
        watched = os.pidfd_open(self._child.pid)
        try:
            with trio.move_on_after(REAP_S, shield=True):
                await trio.lowlevel.wait_readable(watched)
        finally:
            os.close(watched)
            self._child.kill()
        return how(self._child.wait())


def how(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
