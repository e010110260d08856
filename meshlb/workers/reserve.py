"""Processes in reserve, so that a post is filled at once.

Owns those that are started and at no post. To load Python and this program takes up to a second of
a busy machine; what a process is to do it is only told at its post.
"""

from collections import deque
from typing import Final

import trio

from meshlb.workers.hire import Hire

AGAIN_S: Final = 0.5
"""How long after one was taken another one is started: first of all the newcomer gets to work."""

LOAD_S_MAX: Final = 10.0
"""How long processes are awaited to have loaded the program; else they do so at their posts."""


class Reserve:
    """Of one member."""

    def __init__(self) -> None:
        self._hires: deque[Hire] = deque()
        self._taken = trio.Event()

    async def fill(self, count: int) -> None:
        """Start `count` processes; return once they have loaded the program, or had time to."""
        for _ in range(count):
            self._hires.append(Hire.start())
        with trio.move_on_after(LOAD_S_MAX):
            for hire in list(self._hires):
                await hire.loaded()

    def take(self) -> Hire:
        """A process for a post: one of the reserve, or a new one."""
        self._taken.set()
        while self._hires:
            hire = self._hires.popleft()
            if hire.is_alive:
                return hire
            hire.sock.close()
        return Hire.start()

    async def keep(self) -> None:
        """Have one process there, until cancelled."""
        while True:
            if not self._hires:
                self._hires.append(Hire.start())
            self._taken = trio.Event()
            await self._taken.wait()
            await trio.sleep(AGAIN_S)

    def close(self) -> None:
        """Let go of those who are left: they end by themselves."""
        while self._hires:
            self._hires.popleft().sock.close()

    async def reap(self) -> None:
        """End those who are left."""
        while self._hires:
            await self._hires.popleft().reap()
