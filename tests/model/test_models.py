"""The models of the protocol hold in small bounds, and break without a rule that they need.

`make model` checks them in larger bounds; see protocol/model/README.md.
"""

from pathlib import Path

import pytest

from protocol.model.check import RUNS, Run, check, missing_tool

pytestmark = pytest.mark.skipif(
    bool(missing_tool()), reason=f"{missing_tool()} is not installed; the models need spin and cc"
)

SMALL = [pytest.param(run, id=run.name) for run in RUNS if run.is_small]


@pytest.mark.parametrize("run", SMALL)
def test_a_model_holds_or_breaks_as_it_should(run: Run, tmp_path: Path) -> None:
    outcome = check(run, tmp_path)
    assert outcome.is_expected(run), outcome.trace
    assert outcome.states > 0
