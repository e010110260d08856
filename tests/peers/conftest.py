"""Fixtures for tests with real processes: everything that a test starts ends with it."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.peers.harness import backends
from tests.peers.harness.backends import Backend
from tests.peers.harness.child import Child
from tests.peers.harness.mesh import Mesh, Plan, new_secret

LOG_SHOWN_CHARACTERS = 4000

StartMesh = Callable[..., Mesh]
StartBackends = Callable[[str, int], list[Backend]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.peers)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every child's log beside a failure."""
    report = yield
    if report.failed:
        for child in Child.started:
            report.sections.append((f"log of {child.name}", child.output()[-LOG_SHOWN_CHARACTERS:]))
    return report


@pytest.fixture(autouse=True)
def _children() -> Iterator[None]:
    """Kill, by pid, every child that the test has started."""
    Child.started.clear()
    yield
    for child in Child.started:
        child.kill()


@pytest.fixture
def start_backends(tmp_path: Path) -> StartBackends:
    """`start_backends(kind, count)`: that many of one kind, named s1, s2, …

    Kinds: `nginx`, `plain` (http.server), `mirror`, `echo` (websockets), `rooms` (Socket.IO).
    """

    def start(kind: str, count: int) -> list[Backend]:
        names = [f"s{number}" for number in range(1, count + 1)]
        if kind == "nginx":
            started = [backends.nginx(name, tmp_path) for name in names]
        else:
            started = [backends.python_backend(kind, name, tmp_path) for name in names]
        backends.start(started)
        return started

    return start


@pytest.fixture
def start_mesh(tmp_path: Path) -> StartMesh:
    """`start_mesh(backends=…, size=3, …)`: a ready mesh; other keywords are those of `Plan`."""

    def start(*, size: int = 3, **plan: Any) -> Mesh:
        mesh = Mesh(tmp_path, replace(Plan(**plan), secret=new_secret()), size=size)
        mesh.start()
        return mesh

    return start
