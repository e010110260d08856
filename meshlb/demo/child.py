"""A process of the demo: started, watched, and never left behind.

The kernel kills a child when the demo dies, however that happens; an orderly end asks first.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

GRACE_S: Final = 6.0
"""How long a child may take to end when asked to."""
LOG_TAIL_LINES: Final = 8
PR_SET_PDEATHSIG: Final = 1

_LIBC: Final = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """In the child, before it becomes its program. Keep it free of anything that takes a lock."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A Python module that runs as a process; it can be started again after it ended."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._arguments = [sys.executable, "-m", *arguments]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the latest start; 0 before the first."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, its output appended to the log.

        Called in the main thread: the kernel takes the end of the *thread* that made a child for
        the parent's death, and trio's worker threads come and go.
        """
        assert not self.is_running
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    async def wait(self) -> int:
        """The exit status, negative for a signal, once the process has ended."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self._process.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        return self._process.wait()

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None and self.is_running:
            self._process.kill()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not heed it; nothing for one that has ended."""
        if self._process is None or not self.is_running:
            return
        self._process.terminate()
        with trio.move_on_after(GRACE_S):
            await self.wait()
        self.kill()
        self._process.wait()

    def last_words(self) -> str:
        """The end of its log, for a child that ended unasked."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            return "\n".join(lines[-LOG_TAIL_LINES:])
        return ""


def ending(status: int) -> str:
    """How a process ended, for people."""
    return f"died by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
