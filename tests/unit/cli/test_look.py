import json

import pytest

from meshlb.admin.view import WorkerView
from meshlb.cli import show
from meshlb.model import BackendState
from tests.fakes.node import FakeNode
from tests.unit.cli.conftest import Invoke


def test_status_says_who_how_many_and_whether_in_sync(ask: Invoke) -> None:
    result = ask("status")
    assert result.exit_code == 0
    for expected in ("lb-1", "shop", "2 alive, 1 dead", "in sync", "127.0.0.1:8080"):
        assert expected in result.stdout


def test_status_says_why_a_node_is_not_ready(ask: Invoke, node: FakeNode) -> None:
    node.unready = "waiting for the table"
    assert "no: waiting for the table" in ask("status").stdout


def test_members_marks_this_node(ask: Invoke) -> None:
    lines = ask("members").stdout.splitlines()
    assert next(line for line in lines if "this node" in line).startswith("lb-1")
    (dead,) = [line for line in lines if "lb-3" in line]
    assert "1 min 30 s" in dead
    assert "in sync" not in dead, "nobody knows"


def test_members_says_as_of_when_a_table_was_found_alike(ask: Invoke) -> None:
    lines = ask("members").stdout.splitlines()
    assert any("lb-2" in line and "in sync as of 3 s ago" in line for line in lines)


def test_pools_lists_backends_and_can_be_narrowed(ask: Invoke) -> None:
    everything = ask("pools").stdout
    assert "app" in everything
    assert "x1" in everything
    assert "x1" not in ask("pools", "--pool", "app").stdout


def test_pools_says_who_has_put_a_backend_out_of_service_and_when(
    ask: Invoke, node: FakeNode
) -> None:
    node.states["s1"] = BackendState.DRAINING
    node.states["s2"] = BackendState.UP
    printed = ask("pools", "--pool", "app").stdout
    assert "ordered at lb-2, 2026-01-02 03:04:05 UTC" in printed
    assert printed.count("lb-2") == 1


def test_heals_says_who_came_back_and_which_pins_moved(ask: Invoke) -> None:
    printed = ask("heals").stdout
    assert "2026-01-02 03:04:05 UTC" in printed
    assert "lb-2" in printed
    assert "ab" * 16 in printed
    assert "s1 → s2" in printed


def test_heals_names_only_some_keys_unless_asked_for_all(ask: Invoke, node: FakeNode) -> None:
    node.moves = 30
    assert ask("heals").stdout.count("s1 → s2") == show.MOVES_SHOWN
    assert "20 more" in ask("heals").stdout
    assert ask("heals", "--all").stdout.count("s1 → s2") == 30


def test_heals_says_so_where_there_was_none(ask: Invoke, node: FakeNode) -> None:
    node.moves = -1
    assert ask("heals").stdout == "no partition has ended since lb-1 started, 12 s ago\n"


def test_status_says_when_this_node_is_cut_off_from_the_majority(
    ask: Invoke, node: FakeNode
) -> None:
    assert "majority" not in ask("status").stdout
    node.quorate = False
    assert "no: this node is with a minority" in ask("status").stdout


def test_status_says_when_the_table_does_not_reach_the_disk(ask: Invoke, node: FakeNode) -> None:
    assert "disk" not in ask("status").stdout
    node.disk_trouble = "no space left on device"
    said = " ".join(ask("status").stdout.split())
    assert "not written (no space left on device): 1,234 records are in memory alone" in said


def test_status_counts_the_workers_and_their_clients(ask: Invoke, node: FakeNode) -> None:
    assert "workers" not in ask("status").stdout
    node.workers = (
        WorkerView(number=1, pid=7, accepting=True, connections=3, tunnels=2, restarts=0),
        WorkerView(number=2, pid=None, accepting=False, connections=0, tunnels=0, restarts=4),
    )
    assert "1 of 2 let clients in; clients: 5, 0; replaced: 4" in ask("status").stdout


def test_status_says_with_whom_the_table_was_compared(ask: Invoke) -> None:
    assert "equal to that of lb-2 as of 3 s ago" in ask("status").stdout


def test_pins_can_be_narrowed_to_a_backend(ask: Invoke) -> None:
    result = ask("pins", "--pool", "app", "--backend", "s2")
    assert "bob" in result.stdout
    assert "alice" not in result.stdout


def test_explain_tells_the_pins_story(ask: Invoke) -> None:
    result = ask("explain", "--pool", "app", "alice")
    assert result.exit_code == 0
    for expected in ("s1 (up) of pool app", "lb-2", "quorate", "moved from s2: s2 is down"):
        assert expected in result.stdout


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["status"], "node"),
        (["members"], "members"),
        (["pools"], "pools"),
        (["pins"], "pins"),
        (["heals"], "heals"),
        (["explain", "--pool", "app", "alice"], "backend"),
    ],
)
def test_json_is_the_nodes_answer(ask: Invoke, arguments: list[str], key: str) -> None:
    command, *rest = arguments
    assert key in json.loads(ask(command, "--json", *rest).stdout)
