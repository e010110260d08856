import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import trio
from click.testing import CliRunner, Result

from meshlb.admin.api import build_app
from meshlb.admin.serve import serve
from meshlb.cli import main
from meshlb.config import AdminSettings
from tests.fakes.node import FakeNode

Invoke = Callable[..., Result]


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def admin(node: FakeNode) -> Iterator[str]:
    """The address of a real admin API in another thread: the commands block, as they do."""
    bound: list[str] = []
    started = threading.Event()
    stop: list[Callable[[], None]] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            settings = AdminSettings.model_validate({"bind": "127.0.0.1:0"})
            bound.append(str(await nursery.start(serve, settings, build_app(node))))
            token = trio.lowlevel.current_trio_token()
            stop.append(partial(token.run_sync_soon, nursery.cancel_scope.cancel))
            started.set()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert started.wait(60)
    yield f"http://{bound[0]}"
    stop[0]()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def invoke() -> Invoke:
    """Runs a command line in-process; stdout and stderr come back apart."""

    def run(*arguments: str, environment: dict[str, str] | None = None) -> Result:
        return CliRunner(env={"MESHLB_ADMIN": None, **(environment or {})}).invoke(main, arguments)

    return run


@pytest.fixture
def ask(invoke: Invoke, admin: str) -> Invoke:
    """Runs a command against the fake node."""

    def run(command: str, *arguments: str) -> Result:
        return invoke(command, "--admin", admin, *arguments)

    return run


def one_line(result: Result) -> str:
    """What a failed command said: exactly one line, on stderr, without a traceback."""
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("meshlb: ")
    return lines[0]
