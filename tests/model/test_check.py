"""The list of runs covers every rule that a model can leave out."""

import re
from pathlib import Path

import pytest

from protocol.model.check import HERE, RUNS


@pytest.mark.parametrize("model", ["claims", "refutation"])
def test_every_fault_that_a_model_knows_is_tried(model: str) -> None:
    header = (HERE / f"{model}.pml").read_text(encoding="utf-8").partition("*/")[0]
    faults = header.partition("each of which Spin must find:")[2]
    known = set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", faults))
    broken = [run for run in RUNS if run.model == model and run.breaks]
    tried = {name for run in broken for name in run.defines.split()}
    assert known
    assert known <= tried


@pytest.mark.parametrize("model", ["claims", "refutation"])
def test_every_rule_that_a_model_cites_is_in_the_specification(model: str) -> None:
    spec = "".join(
        (Path(HERE).parent / "spec" / name).read_text(encoding="utf-8")
        for name in (["pins.md", "membership.md"] if model == "claims" else ["membership.md"])
    )
    source = (HERE / f"{model}.pml").read_text(encoding="utf-8").partition("*/")[2]
    comments = " ".join(re.findall(r"/\*(.*?)\*/", source))
    cited = set(re.findall(r"\b[A-Z]\d{1,2}\b", comments))
    assert cited
    assert {rule for rule in cited if f"**{rule}**" not in spec} == set()
