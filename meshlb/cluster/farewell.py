"""How a member leaves: first it tells all that it knows, then that it leaves.

Must not know what it tells, nor why the node leaves.

Spec: protocol/spec/pins.md, W2.
"""

from collections.abc import Callable
from typing import Final

import trio

from meshlb.cluster.agent import Agent
from meshlb.cluster.turns import Turns

FLUSH_S_MAX: Final = 1.0
"""How long a leaving node waits for its peers to have read its log, and its farewell."""

FLUSH_POLL_S: Final = 0.01


async def say_farewell(agent: Agent, turns: Turns, *, for_good: bool) -> None:
    """Leave once everybody has what this node knows; bounded.

    Args:
        agent: says so.
        turns: knows what is untold.
        for_good: else another process goes on as this member, and nobody is told.
    """
    turns.leave()
    await _until(lambda: not turns.has_untold())
    if not for_good:
        return
    agent.leave()
    await _until(lambda: not any(link.outbox_bytes for link in agent.links.all()))


async def _until(is_so: Callable[[], bool]) -> None:
    """Return once `is_so`, or when `FLUSH_S_MAX` has passed."""
    for _ in range(round(FLUSH_S_MAX / FLUSH_POLL_S)):
        if is_so():
            return
        await trio.sleep(FLUSH_POLL_S)
