import pytest

from meshlb.model import BackendState
from tests.fakes.node import FakeNode
from tests.unit.cli.conftest import Invoke


def test_an_order_names_the_members_that_have_not_acknowledged_it(
    ask: Invoke, node: FakeNode
) -> None:
    node.deaf = ("lb-3", "lb-4")
    result = ask("drain", "s1", "--pool", "app")
    assert result.stdout == "s1 of pool app: draining; not acknowledged yet by lb-3, lb-4\n"


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


def test_a_dead_member_is_forgotten_and_a_live_one_is_not(ask: Invoke, node: FakeNode) -> None:
    assert ask("forget", "lb-3").stdout == "lb-3 is forgotten\n"
    assert node.forgotten == ["lb-3"]
    refused = ask("forget", "lb-2")
    assert (refused.exit_code, refused.stderr) == (1, "meshlb: lb-2 is alive\n")


def test_a_reload_lists_what_it_has_changed(ask: Invoke, node: FakeNode) -> None:
    assert ask("reload").stdout == "reloaded; nothing is different\n"
    node.changes = ("pool.app.backend.s3: added", "listener.old: removed")
    assert ask("reload").stdout == "pool.app.backend.s3: added\nlistener.old: removed\n"


def test_a_refused_reload_lists_every_fault(ask: Invoke, node: FakeNode) -> None:
    node.faults = ("listener[0].pool: no such pool", "node.name: a → b; this needs a restart")
    result = ask("reload")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "meshlb: not reloaded",
        "meshlb: listener[0].pool: no such pool",
        "meshlb: node.name: a → b; this needs a restart",
    ]
    status = ask("status").stdout
    assert "reload failed" in status
    assert "this needs a restart" in status


def test_an_upgrade_waits_for_the_new_process(ask: Invoke, node: FakeNode) -> None:
    assert ask("upgrade").stdout == "upgraded: process 4712\n"


def test_an_upgrade_that_is_refused_or_fails_says_why(ask: Invoke, node: FakeNode) -> None:
    node.upgrade_fails = "the new process ended with status 1"
    result = ask("upgrade")
    assert result.exit_code == 1
    assert result.stderr == (
        "meshlb: not upgraded, and nothing was lost: the new process ended with status 1\n"
    )
    node.faults = ("listener[0].pool: no such pool",)
    result = ask("upgrade")
    assert result.stderr == "meshlb: refused\nmeshlb: listener[0].pool: no such pool\n"
