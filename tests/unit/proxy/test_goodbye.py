"""Whose turn it is to be told, with ends that only note what they hear."""

from types import SimpleNamespace
from typing import Any

import trio

from meshlb.core.websocket.close import CloseCode
from meshlb.proxy.goodbye import QUIET_LATE_S, QUIET_S, SWEEP_S, Goodbye


class End:
    ended = closed = False
    backlog = None
    is_in_hand = is_read_out = True
    progress_at = 0.0
    peer: "End"

    def __init__(self) -> None:
        self.heard = b""

    def send(self, chunk: bytes) -> bool:
        self.heard += chunk
        return True


def a_tunnel(*, is_websocket: bool = True) -> Any:
    down, up = End(), End()
    down.peer, up.peer = up, down
    tunnel = SimpleNamespace(
        downstream=down, upstream=up, closed=False, lease=SimpleNamespace(is_websocket=is_websocket)
    )
    return Wrapped(tunnel)


class Wrapped:
    """A tunnel that can be a key."""

    def __init__(self, tunnel: SimpleNamespace) -> None:
        vars(self).update(vars(tunnel))

    def close(self) -> None:
        self.closed = True


def told(tunnels: list[Any]) -> int:
    return sum(bool(tunnel.downstream.heard) for tunnel in tunnels)


async def test_clients_are_told_one_after_the_other(autojump_clock) -> None:
    await trio.sleep(1)
    tunnels = [a_tunnel() for _ in range(100)]
    goodbye = Goodbye(CloseCode.GOING_AWAY, spread_s=10.0)
    counts = []
    for _ in range(11):
        goodbye.say(tunnels)
        counts.append(told(tunnels))
        await trio.sleep(1)
    assert counts == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


async def test_without_a_time_all_are_told_at_once(autojump_clock) -> None:
    await trio.sleep(1)
    tunnels = [a_tunnel() for _ in range(9)]
    Goodbye(CloseCode.SERVICE_RESTART).say(tunnels)
    assert told(tunnels) == 9


async def test_those_who_cannot_be_told_make_room_for_others(autojump_clock) -> None:
    await trio.sleep(1)
    carried, unread, backed_up, half, _no_websocket = tunnels = [a_tunnel() for _ in range(4)] + [
        a_tunnel(is_websocket=False)
    ]
    carried.upstream.is_in_hand = False
    unread.upstream.is_read_out = False
    backed_up.downstream.backlog = b"bytes"
    half.downstream.ended = True
    goodbye = Goodbye(CloseCode.GOING_AWAY, spread_s=1.0)
    free = a_tunnel()
    await trio.sleep(SWEEP_S)
    goodbye.say([*tunnels, free])
    assert told([*tunnels, free]) == told([free]) == 1
    await trio.sleep(2)
    goodbye.say([*tunnels, free])
    assert told(tunnels) == 0


async def test_a_busy_backend_is_interrupted_at_a_shorter_pause_when_time_is_short(
    autojump_clock,
) -> None:
    busy = a_tunnel()
    goodbye = Goodbye(CloseCode.GOING_AWAY, spread_s=5.0)
    assert QUIET_LATE_S < QUIET_S
    for _ in range(49):
        await trio.sleep(0.1)
        busy.upstream.progress_at = trio.current_time() - QUIET_LATE_S
        goodbye.say([busy])
    assert told([busy]) == 0
    await trio.sleep(0.2)
    busy.upstream.progress_at = trio.current_time() - QUIET_LATE_S
    goodbye.say([busy])
    assert told([busy]) == 1
