"""The loops of a member: what makes an `Agent` act, in real time.

Owns the tasks that wait for timers, datagrams and links, and the ticker that measures how late
the event loop is. Decides nothing.
"""

import math
from collections.abc import Iterable
from typing import Final

import trio

from meshlb.cluster.agent import Agent
from meshlb.cluster.datagrams import DatagramPort
from meshlb.cluster.links import Links

LAG_TICK_S: Final = 0.1
"""How often the event loop's lag is measured."""

UPKEEP_S: Final = 0.25
"""How often missing links are looked for, with the tick that is due then."""


async def drive(
    agent: Agent,
    *,
    port: DatagramPort,
    links: Links,
    listeners: Iterable[trio.SocketListener],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let `agent` take part until cancelled; started once it can be told things."""
    hurry = _Hurry()
    agent.begin(links, hurry.set)
    task_status.started()
    async with trio.open_nursery() as nursery:
        await nursery.start(links.run, listeners)
        nursery.start_soon(port.run, agent.datagram)
        nursery.start_soon(_timers, agent, hurry)
        nursery.start_soon(_tick, agent)


class _Hurry:
    """An event that is used again and again, by one waiting task."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait_until(self, deadline: float) -> None:
        """Return at `deadline`, or once `set` was called since the last return."""
        with trio.move_on_at(deadline):
            await self._event.wait()
        self._event = trio.Event()


async def _timers(agent: Agent, hurry: _Hurry) -> None:
    while True:
        await hurry.wait_until(agent.next_deadline())
        agent.handle_timer()


async def _tick(agent: Agent) -> None:
    now, upkeep_at = trio.current_time(), -math.inf
    while True:
        if now >= upkeep_at:
            agent.upkeep()
            upkeep_at = now + UPKEEP_S
        due = now + LAG_TICK_S
        await trio.sleep_until(due)
        now = trio.current_time()
        agent.lagged(now - due)
