import json

from tests.unit.cli.conftest import Invoke


def test_top_prints_one_picture_outside_a_terminal(ask: Invoke) -> None:
    result = ask("top")
    assert result.exit_code == 0
    for expected in ("lb-1", "lb-3", "dead", "s2", "x1"):
        assert expected in result.stdout


def test_top_for_programs_is_all_that_it_shows(ask: Invoke) -> None:
    assert set(json.loads(ask("top", "--json").stdout)) == {"status", "members", "pools"}
