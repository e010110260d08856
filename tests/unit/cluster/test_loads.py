import msgpack
import pytest
import trio
import trio.testing

from meshlb.cluster import loads as loads_module
from meshlb.cluster.loads import CONNECTIONS, CONNECTIONS_MAX, REPEAT_EVERY_S, TELL_EVERY_S, Loads
from meshlb.model import BackendName, NodeName, PoolName
from meshlb.wire.broadcast_words import Payload, Topic
from meshlb.wire.limits import PAYLOAD_BYTES_MAX

S1, S2 = ((PoolName("app"), BackendName(name)) for name in ("s1", "s2"))
B, C = NodeName("b"), NodeName("c")


class Scene:
    def __init__(self) -> None:
        self.here: dict[tuple[PoolName, BackendName], int] = {}
        self.told: list[object] = []
        self.live = {B, C}
        self.sums: dict[tuple[PoolName, BackendName], int] = {}
        self.loads = Loads(
            here=lambda: self.here,
            tell=self.tell,
            live=lambda: self.live,
            on_change=self.sums.__setitem__,
        )

    async def tell(self, topic: Topic, payload: Payload) -> None:
        assert topic == CONNECTIONS
        self.told.append(msgpack.unpackb(payload))


def says(*entries: object) -> Payload:
    return Payload(msgpack.packb(entries))


def test_what_others_say_is_added_up() -> None:
    scene = Scene()
    scene.loads.hear(B, says([*S1, 3], [*S2, 1]))
    scene.loads.hear(C, says([*S1, 4]))
    assert scene.sums == {S1: 7, S2: 1}
    scene.loads.hear(B, says([*S1, 0]))
    assert scene.sums == {S1: 4, S2: 1}


def test_who_is_gone_counts_no_longer() -> None:
    scene = Scene()
    scene.loads.hear(B, says([*S1, 3]))
    scene.loads.hear(C, says([*S1, 4]))
    scene.loads.keep({C})
    assert scene.sums == {S1: 4}


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        msgpack.packb(5),
        msgpack.packb([5]),
        msgpack.packb([["app", "s1"]]),
        msgpack.packb([["app", 1, 1]]),
        msgpack.packb([["app", "s1", -1]]),
        msgpack.packb([["app", "s1", CONNECTIONS_MAX + 1]]),
        msgpack.packb([["app", "s1", True]]),
        msgpack.packb([[["app"], "s1", 1]]),
    ],
)
def test_what_is_no_list_of_connections_changes_nothing(payload: bytes) -> None:
    scene = Scene()
    scene.loads.hear(B, says([*S1, 3]))
    scene.loads.hear(B, Payload(payload))
    assert scene.sums == {S1: 3}


def test_a_member_may_speak_of_so_many_backends_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loads_module, "BACKENDS_MAX", 2)
    scene = Scene()
    scene.loads.hear(B, says(*(["app", f"s{number}", 1] for number in range(5))))
    assert sum(scene.sums.values()) == 2


def test_only_changes_are_told_and_each_in_a_payload_that_fits() -> None:
    scene = Scene()
    name = "n" * 63
    backends = [(PoolName(name), BackendName(f"{number:063}")) for number in range(1_000)]
    scene.here = dict.fromkeys(backends, CONNECTIONS_MAX * 2)
    payloads = scene.loads.news()
    assert all(len(payload) <= PAYLOAD_BYTES_MAX for payload in payloads)
    assert sum(len(msgpack.unpackb(payload)) for payload in payloads) == 1_000
    assert scene.loads.news() == []
    del scene.here[backends[0]]
    (payload,) = scene.loads.news()
    assert msgpack.unpackb(payload) == [[*backends[0], 0]]


async def test_changes_are_told_once_a_second_and_all_of_it_now_and_then(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene()
    scene.here = {S1: 2}
    nursery.start_soon(scene.loads.run)
    await trio.sleep(TELL_EVERY_S / 2)
    assert scene.told == [[[*S1, 2]]]
    scene.here = {S1: 2, S2: 1}
    await trio.sleep(TELL_EVERY_S)
    assert scene.told[1:] == [[[*S2, 1]]]
    await trio.sleep(REPEAT_EVERY_S)
    assert scene.told[2:] == [[[*S1, 2], [*S2, 1]]]


async def test_that_nothing_is_left_is_repeated_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene()
    scene.here = {S1: 2}
    nursery.start_soon(scene.loads.run)
    await trio.sleep(TELL_EVERY_S / 2)
    scene.here = {}
    await trio.sleep(REPEAT_EVERY_S + TELL_EVERY_S)
    assert scene.told[1:] == [[[*S1, 0]]] * 2


async def test_a_newcomer_is_told_everything(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene()
    scene.here = {S1: 2}
    nursery.start_soon(scene.loads.run)
    await trio.sleep(TELL_EVERY_S * 1.5)
    scene.live.add(NodeName("d"))
    await trio.sleep(TELL_EVERY_S)
    assert scene.told == [[[*S1, 2]]] * 2
