import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from tests.unit.cli.conftest import Invoke


def one_line(result: Result) -> str:
    """What the command said: exactly one line, on stderr, without a traceback."""
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("meshlb: ")
    return lines[0]


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_a_node_that_cannot_be_reached_is_exit_1(invoke: Invoke, free_port: int) -> None:
    result = invoke("status", "--admin", f"http://127.0.0.1:{free_port}")
    assert result.exit_code == 1
    assert "cannot be reached" in one_line(result)


def test_a_unix_socket_that_is_not_there_is_exit_1(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("status", "--admin", f"unix:{tmp_path}/none.sock")
    assert result.exit_code == 1
    assert "cannot be reached" in one_line(result)


def test_a_nodes_refusal_is_exit_1_with_its_own_words(ask: Invoke) -> None:
    result = ask("explain", "--pool", "app", "nobody")
    assert result.exit_code == 1
    assert "the key has no pin in the pool 'app'" in one_line(result)
    result = ask("drain", "--pool", "app", "s9")
    assert result.exit_code == 1
    assert "no backend 's9'" in one_line(result)


def test_an_ambiguous_pool_is_exit_2_and_names_the_pools(ask: Invoke) -> None:
    result = ask("drain", "s1")
    assert result.exit_code == 2
    assert "app, other" in one_line(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--admin", "ftp://127.0.0.1"],
        ["status", "--admin", "http://[::1"],
        ["status", "--nonsense"],
        ["nonsense"],
        ["drain"],
        ["pins", "--limit", "0"],
        ["run"],
        ["check"],
    ],
)
def test_wrong_usage_is_exit_2(invoke: Invoke, arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    one_line(result)


def test_commands_without_arguments_show_the_help(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "run" in result.stderr
    assert invoke("--help").exit_code == 0
