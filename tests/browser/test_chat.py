"""The demo's chat page in a real browser, while the node it came through is killed."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, Page
from tests.peers.harness.child import PYTHON, Child, wait_until
from tests.peers.harness.ports import free_port

SAID = ["Is anybody here?", "My words live in one backend's memory.", "<b>1 < 2</b>"]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Child]:
    """`meshlb demo`, whole, its first node on `demo.port`."""
    argv = [PYTHON, "-m", "meshlb", "demo", "--no-kill", "--no-browser", "--clients", "3"]
    port = free_port()
    child = Child(f"demo:{port}", [*argv, "--port", str(port)], tmp_path / "demo.log")
    child.start()
    try:
        wait_until(
            lambda: "the mesh is whole" in child.output() or not child.is_running,
            "the demo is up",
        )
        assert child.is_running, child.output()
        yield child
    finally:
        if child.is_running:
            child.terminate()


def text(page: Page, name: str) -> str:
    return str(page.evaluate(f"document.getElementById('{name}').textContent"))


def test_the_chat_page_finds_its_backend_again_after_its_node_is_killed(
    demo: Child, tmp_path: Path
) -> None:
    port = demo.name.partition(":")[2]
    with Browser(tmp_path) as browser, browser.open(f"http://127.0.0.1:{port}/") as page:
        page.wait_for("document.getElementById('send')?.disabled === false")
        backend, node = text(page, "backend"), text(page, "node")
        assert node == "lb-1"
        for count, line in enumerate(SAID, 1):
            page.evaluate("document.getElementById('text').focus()")
            page.type_line(line)
            page.wait_for(f"document.getElementById('remembered').textContent === '{count}'")
        mine = "[...document.querySelectorAll('li.mine')].map((item) => item.lastChild.textContent)"
        assert page.evaluate(mine) == SAID

        os.kill(pid_of(demo, node), signal.SIGKILL)
        page.wait_for("document.getElementById('reconnections').textContent === '1'")

        assert text(page, "node") != node
        assert text(page, "backend") == backend
        assert page.evaluate(mine) == SAID
        assert page.evaluate("document.getElementById('story').className") == "good"
        page.screenshot(Path(os.environ.get("MESHLB_SCREENSHOT", tmp_path / "chat.png")))

    assert demo.terminate() == 0, "a simulated client lost its backend without cause"


def pid_of(demo: Child, name: str) -> int:
    """The pid that the demo says it gave a node."""
    started = re.findall(rf"{name} starts, pid (\d+)", demo.output())
    assert started, demo.output()
    return int(started[-1])
