import pytest

from meshlb.model import BackendState
from tests.fakes.node import FakeNode
from tests.unit.cli.conftest import Invoke


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("drain", BackendState.DRAINING),
        ("ready", BackendState.UP),
        ("maintenance", BackendState.MAINTENANCE),
    ],
)
def test_a_backend_is_put_to_a_state(
    ask: Invoke, node: FakeNode, command: str, state: BackendState
) -> None:
    result = ask(command, "--pool", "app", "s1")
    assert result.exit_code == 0
    assert node.states == {"s1": state}
    assert result.stdout == f"s1 of pool app: {state}\n"


def test_unpin_forgets_the_pin(ask: Invoke, node: FakeNode) -> None:
    assert ask("unpin", "--pool", "app", "alice").exit_code == 0
    assert node.pinned == {"bob": "s2"}


def test_leave_reaches_the_node(ask: Invoke, node: FakeNode) -> None:
    assert ask("leave").exit_code == 0
    assert node.left
