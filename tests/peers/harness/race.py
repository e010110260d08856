"""Clients that ask several nodes for the same new key at the same moment, whatever nodes do."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.peers.harness.http import Connection, Door, Response

TRIES_MAX = 100
TRY_AGAIN_S = 0.05


@dataclass(slots=True)
class Race:
    """Every key is asked at `at_once` nodes in parallel; `doors` says which there are now."""

    doors: Callable[[], Sequence[Door]]
    at_once: int = 2
    clients: int = 24
    answered: dict[str, list[str]] = field(default_factory=dict)
    """The backends that have answered each key, once for each request."""
    retried: int = 0
    """Requests that got no answer from a node that went away, and were sent to another."""

    async def run(self, keys: Iterable[str]) -> None:
        """Ask for all keys; `answered` can be read meanwhile."""
        waiting = iter(keys)

        async def ask_in_turn() -> None:
            connections: dict[Door, Connection] = {}
            try:
                for key in waiting:
                    doors = self.doors()
                    asked = random.sample(list(doors), min(self.at_once, len(doors)))
                    answers = (self._ask(connections, door, key) for door in asked)
                    self.answered.setdefault(key, []).extend(await asyncio.gather(*answers))
            finally:
                for connection in connections.values():
                    await connection.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(ask_in_turn())

    async def _ask(self, connections: dict[Door, Connection], door: Door, key: str) -> str:
        """The backend that answers, from another node where this one has gone."""
        for _ in range(TRIES_MAX):
            try:
                response = await self._try(connections, door, key)
            except (OSError, EOFError):
                self.retried += 1
                await asyncio.sleep(TRY_AGAIN_S)
                door = random.choice(list(self.doors()))
                continue
            assert response.status == 200, (key, door, response)
            return response.backend
        raise AssertionError(f"no node answers {key}")

    async def _try(self, connections: dict[Door, Connection], door: Door, key: str) -> Response:
        # Parallel requests of one client may meet at one node after a retry.
        connection = connections.pop(door, None) or await Connection.open(door)
        try:
            response = await connection.request(fields={"X-Session": key})
        except (OSError, EOFError):
            await connection.close()
            raise
        if response.field("connection") == "close" or door in connections:
            await connection.close()
        else:
            connections[door] = connection
        return response

    def disagreed(self) -> dict[str, list[str]]:
        """The keys that were answered by several backends."""
        return {key: got for key, got in self.answered.items() if len(set(got)) > 1}
