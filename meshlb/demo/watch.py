"""Watches the mesh through the nodes' admin APIs, as any operator could; tells what changes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import trio

from meshlb.demo.stage import Node
from meshlb.demo.story import Story

INTERVAL_S: Final = 0.5
TIMEOUT_S: Final = 1.5

TONES: Final = {"alive": "good", "up": "good", "dead": "bad", "down": "bad"}


@dataclass(frozen=True, slots=True)
class Sight:
    """One node's answers; empty where it does not answer."""

    status: dict[str, Any] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    backends: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        """Whether the node answered."""
        return bool(self.status)

    @property
    def is_ready(self) -> bool:
        """Whether the node serves, by its own word."""
        return bool(self.status.get("ready"))


class Watch:
    """The latest sight of every node, by name."""

    def __init__(self, nodes: Sequence[Node], story: Story, http: httpx.AsyncClient) -> None:
        self._nodes = nodes
        self._story = story
        self._http = http
        self.sights: dict[str, Sight] = {node.name: Sight() for node in nodes}
        self.excused: set[str] = set()
        """Backends that an operator has put to maintenance at some time."""

    async def run(self) -> None:
        """Look at all nodes twice a second."""
        while True:
            await self.look()
            await trio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Look at all nodes once, and tell what has changed."""
        found: dict[str, Sight] = {}

        async def look_at(node: Node) -> None:
            found[node.name] = await self._see(node)

        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(look_at, node)
        before = self.sights
        self.sights = {node.name: found[node.name] for node in self._nodes}
        self._tell(before)

    @property
    def is_whole(self) -> bool:
        """Whether every node is ready and sees every other one alive."""
        names = {node.name for node in self._nodes}
        return all(
            sight.is_ready
            and {name for name, at in sight.members.items() if at == "alive"} == names
            for sight in self.sights.values()
        )

    @property
    def backends(self) -> dict[str, dict[str, Any]]:
        """The backends as the first node that answers sees them, connections of all nodes added."""
        answering = [sight for sight in self.sights.values() if sight.answers]
        if not answering:
            return {}
        summed = {name: dict(backend) for name, backend in answering[0].backends.items()}
        for sight in answering[1:]:
            for name, backend in sight.backends.items():
                summed[name]["connections"] += backend["connections"]
        return summed

    async def count_conflicts(self) -> int | None:
        """Keys that had two confirmed backends, by the nodes' own metrics; None if none answers."""
        total: int | None = None
        for node in self._nodes:
            try:
                text = (
                    await self._http.get(f"http://{node.admin}/metrics", timeout=TIMEOUT_S)
                ).text
            except httpx.HTTPError:
                continue
            for line in text.splitlines():
                if line.startswith('meshlb_pins_total{outcome="conflict"}'):
                    total = (total or 0) + int(float(line.split()[-1]))
        return total

    async def _see(self, node: Node) -> Sight:
        async def ask(path: str) -> Any:
            answer = await self._http.get(f"http://{node.admin}{path}", timeout=TIMEOUT_S)
            return answer.raise_for_status().json()

        try:
            members = (await ask("/v1/members"))["members"]
            pools = (await ask("/v1/pools"))["pools"]
            status = await ask("/v1/status")
        except (httpx.HTTPError, ValueError):
            return Sight()
        return Sight(
            status=status,
            members={member["name"]: member["state"] for member in members},
            backends={backend["name"]: backend for pool in pools for backend in pool["backends"]},
        )

    def _tell(self, before: dict[str, Sight]) -> None:
        """One line for each new state, with all who see it."""
        witnesses: dict[tuple[str, str, str], list[str]] = {}
        for observer, sight in self.sights.items():
            former = before[observer]
            if not (sight.answers and former.answers):
                continue
            for name, state in sight.members.items():
                if former.members.get(name) not in (None, state):
                    witnesses.setdefault(("sees", name, state), []).append(observer)
            for name, backend in sight.backends.items():
                known = former.backends.get(name, backend)["state"]
                if known != backend["state"]:
                    witnesses.setdefault(("finds", name, backend["state"]), []).append(observer)
                if backend["state"] == "maintenance":
                    self.excused.add(name)
        for (verb, name, state), observers in witnesses.items():
            verb = verb if len(observers) == 1 else verb.rstrip("s")
            text = f"{', '.join(observers)} {verb} {name} {state}"
            self._story.tell(text, TONES.get(state, "plain"))
