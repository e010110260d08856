import datetime

import pytest

from meshlb.config import faults


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (3, "3"),
        (1.5, "1.5"),
        ("text", '"text"'),
        ("two\nlines", '"two\\nlines"'),
        ({"secret": "x"}, "a table"),
        (["x"], "a list"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_a_value_is_shown_as_the_file_has_it_on_one_line(value: object, shown: str) -> None:
    assert faults.show_value(value) == shown


def test_a_long_value_is_cut() -> None:
    shown = faults.show_value("x" * 1_000)
    assert len(shown) < 100
    assert "…" in shown.encode().decode("unicode_escape")


def test_faults_stand_in_the_order_of_the_tables() -> None:
    lines = ["pool.a: x", "listener[0]: x", "node.name: x", "zzz: x", "cluster.bind: x"]
    assert faults.in_order(lines) == [
        "node.name: x",
        "cluster.bind: x",
        "listener[0]: x",
        "pool.a: x",
        "zzz: x",
    ]


def test_the_nearest_key_is_suggested_only_if_it_is_near() -> None:
    assert faults.nearest("weigth", ["name", "weight"]) == "weight"
    assert faults.nearest("zzz", ["name", "weight"]) == ""
