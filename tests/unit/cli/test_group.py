import subprocess
import sys

import pytest

from tests.unit.cli.conftest import Invoke, one_line


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--nonsense"],
        ["nonsense"],
        ["drain"],
        ["pins", "--limit", "0"],
        ["run"],
        ["check"],
        ["check", "one", "two"],
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(invoke: Invoke, arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    one_line(result)


def test_no_command_at_all_shows_the_help(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_the_help_lists_the_commands_by_family(invoke: Invoke) -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines()]
    assert listed[:4] == ["run", "check", "demo", "keygen"]
    assert listed[-1] == "leave"


def test_whoever_has_read_enough_causes_no_traceback() -> None:
    command = f"{sys.executable} -m meshlb --help | :"
    ended = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
