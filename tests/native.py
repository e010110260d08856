"""The program as `make compiled` has built it: beside the source, and never in its place.

A native module in the source tree would be imported instead of the file that was edited a moment
ago. So it has a folder of its own, and whoever wants it asks for it: the benches, and the tests of
`tests/runtime` and `tests/peers` where `MESHLB_TEST_COMPILED=1` is set.
"""

import filecmp
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / ".compiled"
IS_TESTED = os.environ.get("MESHLB_TEST_COMPILED", "0") != "0"

of_the_source = pytest.mark.skipif(
    IS_TESTED,
    reason="stands in for a native class, changes a constant that was compiled in,"
    " or runs another version from its source",
)
"""A test that only the source can pass."""


def is_built() -> bool:
    """Whether it is there.

    Raises:
        SystemExit: it is, but from another source: whatever it showed would mislead.
    """
    if not FOLDER.exists():
        return False
    for module in (REPOSITORY / "meshlb").rglob("*.py"):
        built = FOLDER / module.relative_to(REPOSITORY)
        if not built.exists() or not filecmp.cmp(module, built, shallow=False):
            raise SystemExit(f"{module.name} is newer than {FOLDER.name}/: run `make compiled`")
    return True


def environment(folder: Path = FOLDER) -> dict[str, str]:
    """What makes a child, and its children, take meshlb from `folder`."""
    # Python would first look where it is started, and that is in the source.
    return {"PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "PYTHONSAFEPATH": "1"}
