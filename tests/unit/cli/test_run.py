import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.cli.conftest import Invoke

CONFIG = """
[admin]
bind = "{admin}"

[[listener]]
name = "web"
bind = "{listener}"
pool = "app"

[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:9"
"""


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """`run` sends the logs of the whole process to this test's stderr; take that back."""
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("taken_by", ["admin", "listener"])
def test_a_port_in_use_is_exit_1_and_one_line(
    invoke: Invoke, tmp_path: Path, taken_by: str
) -> None:
    binds = {"admin": "127.0.0.1:0", "listener": "127.0.0.1:0"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        binds[taken_by] = f"127.0.0.1:{taken.getsockname()[1]}"
        config = tmp_path / "node.toml"
        config.write_text(CONFIG.format(**binds))
        result = invoke("run", str(config))
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("meshlb: ")]
    assert errors == [f"meshlb: cannot listen on {binds[taken_by]}: the address is in use"]
    assert "Traceback" not in result.stderr
