"""Settings of all tests."""

import gc
import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests import native

if native.IS_TESTED:
    if not native.is_built():
        raise SystemExit("MESHLB_TEST_COMPILED: run `make compiled` first")
    # Before anything of meshlb is imported, here and in every process that a test starts.
    sys.path.insert(0, str(native.FOLDER))
    os.environ |= native.environment()

# A busy machine makes an example slow, not wrong: times decide nothing here.
settings.register_profile(
    "meshlb", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("meshlb")

HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[HAS_FAILED] = item.stash.get(HAS_FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Drop what a failed test has left open here: found later, it would blame another test."""
    yield
    if item.stash.get(HAS_FAILED, False):
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(name, None)
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            gc.collect()
        finally:
            sys.unraisablehook = hook
