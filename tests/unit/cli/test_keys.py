"""`meshlb keys`: each step says who has followed, and a secret is never repeated."""

import base64
import json

import pytest
from click.testing import CliRunner

from meshlb.cli import main
from meshlb.wire.seal import key_id_of
from tests.fakes.node import FakeNode
from tests.unit.cli.conftest import Invoke, one_line

SECRET = b"n" * 32
TEXT = base64.b64encode(SECRET).decode()
SECRET_ID = key_id_of(SECRET).hex()


@pytest.fixture
def keys(invoke: Invoke, admin: str) -> Invoke:
    return lambda step, *rest: invoke("keys", step, "--admin", admin, *rest)


def test_list_has_a_row_a_key_and_a_column_a_member(keys: Invoke) -> None:
    header, first, second = keys("list").stdout.splitlines()
    assert header.split() == ["key", "lb-1", "lb-2", "lb-3"]
    assert first.split() == ["00000001", "sealing", "held", "unknown"]
    assert second.split() == ["00000002", "held", "held", "unknown"]
    assert json.loads(keys("list", "--json").stdout)["keys"][0]["id"] == "00000001"


def test_the_steps_of_a_rotation_say_who_has_followed(keys: Invoke, node: FakeNode) -> None:
    installed = keys("install", TEXT)
    assert installed.exit_code == 0
    assert installed.stdout.splitlines() == [
        f"lb-1 holds {SECRET_ID}",
        f"lb-2 holds {SECRET_ID}",
        "lb-3 is away and follows when it returns",
    ]
    assert keys("use", SECRET_ID.upper()).stdout.startswith(f"lb-1 seals with {SECRET_ID}\n")
    assert keys("remove", "00000001").stdout.startswith("lb-1 has forgotten 00000001\n")
    assert (node.sealing, node.held) == (SECRET_ID, ["00000002", SECRET_ID])


def test_a_secret_comes_from_stdin_where_nobody_sees_it(admin: str, node: FakeNode) -> None:
    arguments = ["keys", "install", "--admin", admin, "-"]
    assert CliRunner().invoke(main, arguments, input=f"{TEXT}\n").exit_code == 0
    assert SECRET_ID in node.held


def test_a_key_is_known_by_the_secret_itself_too(keys: Invoke, node: FakeNode) -> None:
    node.held.append(SECRET_ID)
    assert keys("use", TEXT).exit_code == 0
    assert node.sealing == SECRET_ID


def test_a_live_member_that_has_not_followed_is_a_failure(keys: Invoke, node: FakeNode) -> None:
    node.silent = True
    result = keys("install", TEXT)
    assert result.exit_code == 1
    assert "no word yet from lb-2" in result.stderr
    assert result.stdout.splitlines()[0] == f"lb-1 holds {SECRET_ID}"


@pytest.mark.parametrize(("step", "key"), [("use", "00000002"), ("remove", "00000001")])
def test_a_refused_step_needs_force(keys: Invoke, node: FakeNode, step: str, key: str) -> None:
    node.reluctant = True
    result = keys(step, key)
    assert result.exit_code == 1
    assert "lb-2" in one_line(result)
    assert keys(step, "--force", key).exit_code == 0


@pytest.mark.parametrize("text", ["c2hvcnQ=", "????", "a" * 43])
def test_what_is_no_secret_is_a_usage_error_that_does_not_repeat_it(
    keys: Invoke, text: str
) -> None:
    result = keys("install", text)
    assert result.exit_code == 2
    assert "meshlb keygen" in one_line(result)
    assert text not in result.stderr
