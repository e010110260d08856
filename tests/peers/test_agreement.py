"""One backend per key, whoever asks whom first: the race that convergence loses."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.http import Connection, Door
from tests.peers.harness.mesh import HEADER

KEYS = 2_000
KEYS_AT_ONCE = 25
PER_NODE = 2


def test_no_new_key_is_ever_answered_by_two_backends(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 3), sticky=[HEADER])
    keys = [f"key-{number}" for number in range(KEYS)]

    first = asyncio.run(ask_everybody(mesh.ports, keys, per_node=PER_NODE))
    later = asyncio.run(ask_everybody(mesh.ports, keys, per_node=1))

    disagreed = [key for key in keys if len(first[key] | later[key]) != 1]
    assert disagreed == []
    share = Counter(backend for answered in first.values() for backend in answered)
    assert len(share) == 3
    assert min(share.values()) > KEYS / 6, share
    assert sum(node.metric("meshlb_pins_total", outcome="conflict") for node in mesh.nodes) == 0


async def ask_everybody(
    doors: Sequence[Door], keys: Sequence[str], *, per_node: int
) -> dict[str, set[str]]:
    """Ask all nodes for each key, `per_node` times in parallel; returns who answered each key."""
    answered: dict[str, set[str]] = {}
    waiting = list(reversed(keys))

    async def ask_in_turn() -> None:
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(await Connection.open(door))
                for door in doors
                for _ in range(per_node)
            ]
            while waiting:
                key = waiting.pop()
                random.shuffle(connections)
                responses = await asyncio.gather(
                    *(connection.request(fields={"X-Session": key}) for connection in connections)
                )
                assert {response.status for response in responses} == {200}
                answered[key] = {response.backend for response in responses}

    async with asyncio.TaskGroup() as group:
        for _ in range(KEYS_AT_ONCE):
            group.create_task(ask_in_turn())
    return answered
