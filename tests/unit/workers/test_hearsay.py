import trio

from meshlb.config.schema import BackendSettings
from meshlb.errors import WorkerError
from meshlb.proxy.backend import Backend
from meshlb.workers.hearsay import DOUBT_EVERY_S, Hearsay
from meshlb.workers.messages import Doubt, Message


class OnePool:
    """As much of a pool as its health needs."""

    name = "app"

    def __init__(self, *backends: Backend) -> None:
        self.backends = {backend.name: backend for backend in backends}


def a_backend(name: str) -> Backend:
    settings = BackendSettings.model_validate({"name": name, "address": "127.0.0.1:1"})
    return Backend(settings)


async def test_a_doubt_goes_to_the_member_once_in_a_while(autojump_clock) -> None:
    said: list[Message] = []
    s1, s2 = a_backend("s1"), a_backend("s2")
    hearsay = Hearsay([OnePool(s1, s2)], said.append)
    for _ in range(5):
        hearsay.doubt(s1)
    hearsay.doubt(s2)
    assert said == [Doubt("app", "s1"), Doubt("app", "s2")]
    await trio.sleep(DOUBT_EVERY_S)
    hearsay.doubt(s1)
    assert said[2:] == [Doubt("app", "s1")]


async def test_what_is_configured_no_longer_is_not_doubted() -> None:
    said: list[Message] = []
    before, after = a_backend("s1"), a_backend("s1")
    hearsay = Hearsay([OnePool(before)], said.append)
    hearsay.follow([OnePool(after)])
    hearsay.doubt(before)
    assert said == []
    hearsay.doubt(after)
    assert said == [Doubt("app", "s1")]


async def test_a_member_that_does_not_read_is_not_told() -> None:
    def refuse(message: Message) -> None:
        raise WorkerError("the other process does not read what it is told")

    s1 = a_backend("s1")
    Hearsay([OnePool(s1)], refuse).doubt(s1)
