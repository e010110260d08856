"""The collector is told what lasts, and comes seldom."""

import gc

import pytest

from meshlb.node.collector import COLLECT_AFTER, spare_the_collector


@pytest.fixture
def collector():
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_alive_is_not_looked_at_again(collector: None) -> None:
    spare_the_collector()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == COLLECT_AFTER
