from typing import get_args

import meshlb.core.swim as package
from meshlb.core.swim.events import Effect, Event


def test_the_package_offers_every_event_and_effect():
    offered = {getattr(package, name) for name in package.__all__ if name != "PROFILES"}
    assert {*get_args(Event), *get_args(Effect)} <= offered
