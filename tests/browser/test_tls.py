"""A sticky WebSocket of a real browser over TLS, while the node gets another certificate."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, Page
from tests.fakes.certificates import Authority, Files
from tests.peers.harness import backends
from tests.peers.harness.backends import python_backend
from tests.peers.harness.child import PYTHON, REPOSITORY
from tests.peers.harness.mesh import COOKIE, Mesh, Node, Plan, new_secret

NAME = "localhost"

OPEN = """
new Promise((done, failed) => {{
  const socket = new WebSocket("wss://{place}/?user=me");
  socket.onmessage = (event) => {{ window.{name} = socket; done(event.data); }};
  socket.onerror = () => failed("no WebSocket");
}})
"""
ECHO = """
new Promise((done, failed) => {{
  {name}.onmessage = (event) => done(event.data);
  {name}.onclose = () => failed("closed");
  {name}.send("{text}");
}})
"""


@pytest.fixture
def node(tmp_path: Path, first: Files) -> Iterator[Node]:
    """In front of three backends that count the visits of each user."""
    origins = [python_backend("echo", name, tmp_path) for name in ("s1", "s2", "s3")]
    backends.start(origins)
    plan = Plan(
        backends=origins,
        sticky=[COOKIE],
        secret=new_secret(),
        listener=f'tls = {{ cert = "{first.cert}", key = "{first.key}" }}',
    )
    mesh = Mesh(tmp_path, plan, size=1)
    mesh.start()
    yield mesh.nodes[0]
    for child in (*mesh.nodes, *origins):
        child.kill()


@pytest.fixture
def first(tmp_path: Path) -> Files:
    return Authority(tmp_path).sign("first", names=(NAME,))


@pytest.fixture
def second(tmp_path: Path) -> Files:
    return Authority(tmp_path).sign("second", names=(NAME,))


def test_a_browser_keeps_its_backend_by_tls_when_the_certificate_changes(
    node: Node, first: Files, second: Files, tmp_path: Path
) -> None:
    place = f"{NAME}:{node.port}"
    with (
        Browser(tmp_path, believed=(first, second)) as browser,
        browser.open(f"https://{place}/") as page,
    ):
        backend = page.wait_for("document.body?.textContent.trim()")
        assert page.evaluate("location.protocol") == "https:"
        assert page.evaluate(OPEN.format(place=place, name="early")) == f"{backend} 1"

        first.cert.write_bytes(second.cert.read_bytes())
        first.key.write_bytes(second.key.read_bytes())
        reload(node)
        assert ssl.get_server_certificate(node.door) == second.cert.read_text()

        assert echoed(page, "early", "still here") == "still here"
        assert page.evaluate(OPEN.format(place=place, name="late")) == f"{backend} 2"
        assert echoed(page, "late", "here too") == "here too"


def echoed(page: Page, name: str, text: str) -> object:
    return page.evaluate(ECHO.format(name=name, text=text))


def reload(node: Node) -> None:
    admin = f"http://127.0.0.1:{node.admin_port}"
    subprocess.run([PYTHON, "-m", "meshlb", "reload", "--admin", admin], cwd=REPOSITORY, check=True)
