"""Who waits for too long is closed, and nobody else."""

from dataclasses import dataclass
from typing import Any

import pytest

from meshlb.config.schema import BackendSettings
from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend
from meshlb.proxy.idleness import IDLE_S_MAX, LOOK_EVERY_S, Idleness
from tests.native import of_the_source


@dataclass(eq=False)
class Waiting:
    """A connection, as far as it is looked at here."""

    progress_at: float
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
async def reactor() -> Any:
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def backend() -> Backend:
    settings = BackendSettings.model_validate({"name": "s1", "address": "127.0.0.1:1"})
    return Backend(settings)


@of_the_source
async def test_only_what_has_waited_for_too_long_is_closed(
    reactor: Reactor, backend: Backend
) -> None:
    old, young = Waiting(100.0), Waiting(101.0)
    backend.idle[:] = [old, young]
    idleness = Idleness(reactor, lambda: [backend])
    now = 100.5 + IDLE_S_MAX
    assert idleness.check_deadline(now) == now + LOOK_EVERY_S
    assert (old.closed, young.closed) == (True, False)
    assert backend.idle == [young]


@of_the_source
async def test_it_looks_again_and_again_until_it_is_stopped(
    reactor: Reactor, backend: Backend
) -> None:
    first, second = Waiting(reactor.now), Waiting(reactor.now + 2 * IDLE_S_MAX)
    backend.idle[:] = [first, second]
    idleness = Idleness(reactor, lambda: [backend])
    idleness.watch()
    for passed_s in range(int(IDLE_S_MAX + 3 * LOOK_EVERY_S)):
        reactor.deadlines.expire(reactor.now + passed_s)
    assert (first.closed, second.closed) == (True, False)
    idleness.stop()
    for passed_s in range(int(4 * IDLE_S_MAX)):
        reactor.deadlines.expire(reactor.now + passed_s)
    assert not second.closed
