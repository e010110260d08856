"""A real Chromium, headless, driven over the DevTools protocol by the websockets library."""

import base64
import hashlib
import itertools
import json
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import connect

from tests.fakes.certificates import Files
from tests.peers.harness.backends import accepts, require, tool
from tests.peers.harness.child import Child, wait_until
from tests.peers.harness.ports import free_port

# Without these Chromium looks up its maker's services at every start.
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
ANSWER_TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 64 * 2**20
WINDOW = "1200,800"


def fingerprint(files: Files) -> str:
    """Of the public key in a certificate, as Chromium likes it."""
    key = x509.load_pem_x509_certificate(files.cert.read_bytes()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


class Browser(Child):
    """A Chromium process with an empty profile; use as a context manager.

    It believes certificates in `believed`, and otherwise those that any Chromium would.
    """

    def __init__(self, folder: Path, *, believed: Sequence[Files] = ()) -> None:
        require("chromium")
        self._port = free_port()
        argv = [
            tool("chromium"),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--window-size={WINDOW}",
            f"--user-data-dir={folder / 'profile'}",
            f"--remote-debugging-port={self._port}",
            f"--ignore-certificate-errors-spki-list={','.join(map(fingerprint, believed))}",
            *QUIET,
            "about:blank",
        ]
        super().__init__("chromium", argv, folder / "chromium.log")

    def __enter__(self) -> Self:
        self.start()
        wait_until(lambda: accepts(self._port), "chromium accepts")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with connect(self._ask("version")["webSocketDebuggerUrl"]) as connection:
            connection.send(json.dumps({"id": 1, "method": "Browser.close"}))
        try:
            wait_until(lambda: not self.is_running, "chromium ends")
        finally:
            self.kill()

    def _ask(self, what: str, *, method: str = "GET") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/json/{what}", method=method
        )
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as response:
            return json.load(response)

    def open(self, url: str) -> "Page":
        """A new tab at `url`."""
        tab = self._ask(f"new?{quote(url)}", method="PUT")
        return Page(tab["webSocketDebuggerUrl"])


class Page:
    """One tab; use as a context manager."""

    def __init__(self, debugger_url: str) -> None:
        self._stack = ExitStack()
        self._debugger_url = debugger_url
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        debugger = connect(self._debugger_url, max_size=ANSWER_BYTES_MAX)
        self._connection = self._stack.enter_context(debugger)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def command(self, method: str, **parameters: object) -> dict[str, Any]:
        """One DevTools command and its answer; events in between are skipped."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=ANSWER_TIMEOUT_S))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Wait until the expression is truthy; returns its value."""
        end = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"never true in the page: {expression}"
            time.sleep(0.05)
        return value

    def type_line(self, text: str) -> None:
        """Type into the focused element, as a keyboard does, and press Enter."""
        self.command("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                windowsVirtualKeyCode=13,
                text="\r" if kind == "keyDown" else "",
            )

    def screenshot(self, file: Path) -> None:
        """Write a PNG of what the tab shows."""
        picture = self.command("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(picture))
