"""One process of ours: started, watched, killed by its own pid, its output kept in a file."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.peers.harness.place import LOOPBACK, Place

REPOSITORY = Path(__file__).parents[3]
PYTHON = sys.executable

PATIENCE_S = 180.0
"""How long to wait for what must happen: a machine may be many times slower than another."""


class Child:
    """A process that dies with the test run, however that ends.

    `started` lists every child of the current test, so that a failure can show their logs.
    """

    started: list["Child"] = []  # noqa: RUF012 - a registry that all children share

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        *,
        place: Place = LOOPBACK,
    ) -> None:
        self.name = name
        self.place = place
        self.cwd = REPOSITORY
        self.log = log
        self._argv = list(argv)
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; its output is appended to the log.

        Not in a thread that ends before the test: the process would die with it.
        """
        assert not self.is_running
        # setpriv asks the kernel to kill the child when the test run is killed; the pid stays.
        wrapper = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self.log.open("ab") as output, self.place.entered():
            self._process = subprocess.Popen(
                [*wrapper, *self._argv],
                cwd=self.cwd,
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if self not in Child.started:
            Child.started.append(self)

    def pin(self, core: int) -> None:
        """Keep the process to one core from its next start on."""
        self.start_by("taskset", "--cpu-list", str(core))

    def set_environment(self, **variables: str) -> None:
        """Add to the environment of the process from its next start on."""
        self._env |= variables

    def start_by(self, *program: str) -> None:
        """Have `program` start the process from its next start on; the pid stays the same."""
        self._argv = [*program, *self._argv]

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, *, timeout_s: float = PATIENCE_S) -> int:
        """Wait until the process ends by itself; its exit status.

        Raises:
            subprocess.TimeoutExpired: if it is still there after `timeout_s`.
        """
        assert self._process is not None
        return self._process.wait(timeout_s)

    def terminate(self, *, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM, and the exit status.

        Raises:
            subprocess.TimeoutExpired: if the process is still there after `timeout_s`.
        """
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; SIGSTOP makes a process that is alive for the kernel, silent for peers."""
        os.kill(self.pid, number)

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the process now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kilobytes = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(kilobytes.split()[1]) * 1024

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = PATIENCE_S) -> float:
    """Poll until `condition` holds; returns the seconds that took, fails the test if too long."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - begin
