"""Fixtures for tests of the proxy."""

import pytest
from trio.testing import MockClock

STILL_S = 0.02


@pytest.fixture
def unhurried() -> MockClock:
    """A clock for trio that leaps ahead while nothing happens, and else stands still.

    So it does not matter to time-outs how slow the machine is, and a long silence is soon over.
    """
    return MockClock(autojump_threshold=STILL_S)
