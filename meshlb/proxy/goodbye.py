"""Goodbye to WebSockets: a Close between two frames of the backend, and the handshake after it.

Owns who is told when, and what becomes of those who do not answer. The client answers with a Close
of its own, which goes to the backend as all that it says does; so the backend has everything that
came before, and closes as if the client had wanted it. What the backend says after ours the client
disregards (RFC 6455 section 1.4).

Nobody reads frames on their way, least of all the kernel. So a backend that has said nothing for a
while, and of which nothing waits anywhere, is taken to be between two frames. One that never pauses
cannot be interrupted: its tunnel is cut in the end.
"""

import math
import os
from collections.abc import Sequence
from typing import Final

import trio

from meshlb.core.websocket.close import MASK_BYTES, CloseCode, close_frame
from meshlb.proxy.tunnel import Tunnel, TunnelEnd
from meshlb.proxy.tunnels import Tunnels

QUIET_S: Final = 0.2
"""Whoever has been silent for so long is taken to be between two frames."""

QUIET_LATE_S: Final = 0.05
"""The same once everybody should have been told: the alternative is to be cut."""

SPREAD_FRACTION: Final = 0.5
"""The part of the time of a drain over which those are spread who have to come anew."""

ANSWER_S_MAX: Final = 2.0
"""From our Close to the end of the tunnel."""

SWEEP_S: Final = 0.05
"""How often it is looked who can be told."""


async def part(tunnels: Tunnels, within_s: float) -> None:
    """Tell all WebSockets that the node is going away, until cancelled."""
    goodbye = Goodbye(CloseCode.GOING_AWAY, spread_s=within_s * SPREAD_FRACTION)
    tunnels.relays.stand_aside()
    while True:
        goodbye.say(list(tunnels))
        await trio.sleep(SWEEP_S)


class Goodbye:
    """Says it to some tunnels, in a while."""

    def __init__(self, code: CloseCode, *, spread_s: float = 0.0) -> None:
        """Begin now.

        Args:
            code: what they are told.
            spread_s: over how long those who can be told at once are spread.
        """
        self._code = code
        self._spread_s = spread_s
        self._began_at = trio.current_time()
        self._told = 0
        self._answers_due: dict[Tunnel, float] = {}

    def say(self, tunnels: Sequence[Tunnel]) -> None:
        """Tell those of `tunnels` who can be told and whose turn it is; end who does not answer."""
        now = trio.current_time()
        for tunnel, due_at in list(self._answers_due.items()):
            if tunnel.closed:
                del self._answers_due[tunnel]
            elif now >= due_at:
                self._end(tunnel, now)
        waiting = [
            tunnel
            for tunnel in tunnels
            if tunnel.lease.is_websocket and not (tunnel.closed or tunnel in self._answers_due)
        ]
        passed = (now - self._began_at) / self._spread_s if self._spread_s else 1.0
        turns = math.ceil((self._told + len(waiting)) * min(1.0, passed)) - self._told
        for tunnel in waiting:
            if turns <= 0:
                break
            if _is_between_frames(tunnel.upstream, now, QUIET_S if passed < 1 else QUIET_LATE_S):
                self._told += 1
                self._answers_due[tunnel] = now + ANSWER_S_MAX
                tunnel.downstream.send(close_frame(self._code))
                turns -= 1

    def _end(self, tunnel: Tunnel, now: float) -> None:
        """The client does not answer: the backend is told by us."""
        if _is_between_frames(tunnel.downstream, now, QUIET_S):
            tunnel.upstream.send(close_frame(self._code, mask=os.urandom(MASK_BYTES)))
        tunnel.close()


def _is_between_frames(end: TunnelEnd, now: float, quiet_s: float) -> bool:
    """Whether all that `end` has said is with its peer, up to the end of a frame as it seems."""
    return (
        not (end.ended or end.closed or end.peer.ended or end.peer.backlog)
        and now >= end.progress_at + quiet_s
        and end.is_in_hand
        and end.is_read_out
    )
