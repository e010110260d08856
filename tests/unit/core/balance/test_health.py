"""Rise and fall, told as a row of results."""

import pytest

from meshlb.core.balance.health import Health


@pytest.mark.parametrize(
    ("up", "results", "states"),
    [
        (None, "-", "-"),
        (None, "+", "+"),
        (None, "+---", "+++-"),
        (True, "--+---", "+++++-"),
        (False, "+-++", "---+"),
        (True, "---++---", "++--+++-"),
        (False, "----", "----"),
    ],
)
def test_a_row_of_results_decides(up, results, states):
    health = Health(rise=2, fall=3, up=up)
    assert "".join("+" if health.record(good=r == "+") else "-" for r in results) == states


def test_one_result_can_be_enough():
    health = Health(rise=1, fall=1, up=True)
    assert [health.record(good=good) for good in (False, True, False)] == [False, True, False]
