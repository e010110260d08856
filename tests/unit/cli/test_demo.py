import pytest

from tests.unit.cli.conftest import Invoke, one_line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nodes", "0"],
        ["--backends", "0"],
        ["--seconds", "0"],
        ["--port", "0"],
        ["--clients", "-1"],
    ],
)
def test_a_demo_of_nothing_is_wrong_usage(invoke: Invoke, arguments: list[str]) -> None:
    result = invoke("demo", *arguments)
    assert result.exit_code == 2
    one_line(result)
