"""Drives `socketio/clients.mjs`: many socket.io-clients in one Node.js process."""

import fcntl
import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.peers.harness.backends import require
from tests.peers.harness.child import PATIENCE_S, wait_until

FOLDER = Path(__file__).parents[1] / "socketio"

Report = dict[str, Any]


def install() -> None:
    """Install socket.io-client as the lock file has it, once per checkout."""
    require("node", "npm")
    installed = FOLDER / "node_modules" / ".package-lock.json"
    versions = FOLDER / "package-lock.json"
    with versions.open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= versions.stat().st_mtime:
            return
        npm = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, capture_output=True, text=True
        )
    if npm.returncode != 0:
        pytest.skip(f"npm could not install socket.io-client: {npm.stderr[-300:]}")


class SocketIOClients:
    """The clients, and everything they have reported so far."""

    def __init__(self, ports: Sequence[int], count: int) -> None:
        self.count = count
        self.reports: list[Report] = []
        options = json.dumps({"ports": list(ports), "clients": count})
        self._process = subprocess.Popen(
            ["node", str(FOLDER / "clients.mjs"), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._reader.join()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.reports.append(json.loads(line))

    def say(self, *, since: int) -> dict[int, Report]:
        """Every client says a word; returns each one's answer, by client."""
        assert self._process.stdin is not None
        self._process.stdin.write("say\n")
        self._process.stdin.flush()
        return self.wait_for("answer", since=since)

    def wait_for(
        self, event: str, *, since: int = 0, count: int | None = None, timeout_s: float = PATIENCE_S
    ) -> dict[int, Report]:
        """Wait until `count` clients (all, if not given) have reported `event`.

        Looks at reports from number `since` on; returns the last such report of each client.
        """
        wanted = self.count if count is None else count
        wait_until(
            lambda: len(self._by_client(event, since)) >= wanted,
            f"{wanted} × {event}",
            timeout_s=timeout_s,
        )
        return self._by_client(event, since)

    def _by_client(self, event: str, since: int) -> dict[int, Report]:
        return {
            report["client"]: report for report in self.reports[since:] if report["event"] == event
        }

    def of(self, *events: str) -> list[Report]:
        """All reports of these kinds."""
        return [report for report in self.reports if report["event"] in events]
