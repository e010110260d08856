"""A simulated client: chats, roams, reconnects through any node, and checks whom it meets.

Like a browser behind DNS round robin it knows the nodes' addresses but not which of them live, and
keeps the cookies it is given. It must not know how the mesh works, only what it promises: the same
backend, whichever node, with its memory, unless that backend's process is gone.
"""

import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from meshlb.demo.backend import VISITOR_COOKIE
from meshlb.demo.story import Score, Story

PATIENCE_S: Final = 5.0
PAUSE_S: Final = (0.1, 0.4)
"""Between a lost connection and the next attempt."""
ASK_CHANCE: Final = 0.3
CLOSE_S: Final = 1.0

FAILURES: Final = (OSError, HandshakeError, ConnectionClosed, trio.TooSlowError, ValueError)
"""Whatever a dying node or backend can do to a WebSocket."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How busy a client is; both are ranges to draw from."""

    speak_s: tuple[float, float] = (0.4, 1.2)
    """From one message to the next."""
    stay_s: tuple[float, float] = (4.0, 12.0)
    """On one connection, before the client roams to another node."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """The backend process that answered, and the node in between."""

    backend: str
    boot: str
    generation: int
    """How often that backend had been started when it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all clients share."""

    nodes: Mapping[str, str]
    """The address of each node."""
    generation: Callable[[str], int]
    """How often a backend was started; 0 while its process is not there."""
    is_excused: Callable[[str], bool]
    """Whether an operator took the backend's sessions away."""
    story: Story
    score: Score
    http: httpx.AsyncClient
    rng: random.Random
    pace: Pace = Pace()


@asynccontextmanager
async def open_chat(address: str, cookie: bytes) -> AsyncIterator[Any]:
    """A WebSocket to the chat at `address`; closed for certain, whatever the other end does."""
    host, _, port = address.rpartition(":")
    with trio.fail_after(PATIENCE_S):
        stream = await trio.open_tcp_stream(host, int(port))
    async with stream, trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            socket = await wrap_client_stream(
                nursery, stream, address, "/chat", extra_headers=[(b"cookie", cookie)]
            )
        yield socket
        with trio.move_on_after(CLOSE_S):
            await socket.aclose()
        nursery.cancel_scope.cancel()


class Client:
    """One client, for as long as the demo runs."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self._world = world
        self._visitor = f"{world.rng.getrandbits(32):08x}"
        self._cookies = {VISITOR_COOKIE: self._visitor}
        self._met: Meeting | None = None
        self._said = 0
        self._node = ""
        self._lost_at = 0.0

    async def run(self) -> None:
        """Connect, talk, roam; for ever."""
        while True:
            node = self._choose()
            try:
                await self._visit(node)
            except* FAILURES:
                self._world.score.dropped += bool(self._lost_at == 0.0)
                self._lost_at = self._lost_at or time.monotonic()
                await trio.sleep(self._world.rng.uniform(*PAUSE_S))
            self._node = node

    def _choose(self) -> str:
        """Any node but the last one, as a client that was just cut off there would."""
        nodes = list(self._world.nodes)
        others = [name for name in nodes if name != self._node]
        return self._world.rng.choice(others or nodes)

    async def _visit(self, node: str) -> None:
        async with open_chat(self._world.nodes[node], self._cookie_field()) as socket:
            self._keep_cookies(
                [
                    value.decode()
                    for name, value in socket.handshake_headers
                    if name == b"set-cookie"
                ]
            )
            with trio.fail_after(PATIENCE_S):
                welcome = json.loads(await socket.get_message())
            self._meet(node, welcome)
            self._world.score.connected += 1
            try:
                await self._talk(socket)
            finally:
                self._world.score.connected -= 1

    async def _talk(self, socket: Any) -> None:
        """Speak, and listen in between: only who listens notices at once that a node died."""
        rng, pace = self._world.rng, self._world.pace
        until = time.monotonic() + rng.uniform(*pace.stay_s)
        while time.monotonic() < until:
            await socket.send_message(json.dumps({"text": f"hello from {self.name}"}))
            with trio.fail_after(PATIENCE_S):
                while not await self._hears_itself(socket):
                    pass
            if rng.random() < ASK_CHANCE:
                await self._ask_another_node()
            with trio.move_on_after(rng.uniform(*pace.speak_s)):
                while True:
                    await self._hears_itself(socket)

    async def _hears_itself(self, socket: Any) -> bool:
        """Take one message; whether it is what this client said, passed on by the backend."""
        message = json.loads(await socket.get_message())
        if message.get("who") != self._visitor:
            return False
        self._said = max(self._said, message["said"])
        self._world.score.said += 1
        return True

    async def _ask_another_node(self) -> None:
        """A plain request through any node must reach the backend of the open WebSocket."""
        node = self._choose()
        try:
            answer = await self._world.http.get(
                f"http://{self._world.nodes[node]}/about",
                headers={"Cookie": self._cookie_field().decode()},
            )
            about = answer.json()
        except (httpx.HTTPError, ValueError):
            return
        self._keep_cookies(answer.headers.get_list("set-cookie"))
        if self._met is not None and about.get("boot") == self._met.boot:
            self._world.score.asked += 1
        elif self._met is not None and not self._cause(self._met):
            self._lose(
                f"asked {node} and met {about.get('backend')} instead of {self._met.backend}"
            )

    def _meet(self, node: str, welcome: Mapping[str, Any]) -> None:
        """Compare the backend with the last one, and note how the return went."""
        world, score, former = self._world, self._world.score, self._met
        backend = str(welcome["backend"])
        self._met = Meeting(backend, str(welcome["boot"]), world.generation(backend))
        score.connections += 1
        absence_s = time.monotonic() - self._lost_at if self._lost_at else 0.0
        self._lost_at = 0.0
        if former is None:
            return
        score.returns += 1
        score.through_another_node += node != self._node
        score.longest_absence_s = max(score.longest_absence_s, absence_s)
        back = f"{self.name} is back through {node}"
        if former.boot == self._met.boot:
            if welcome["remembered"] < self._said:
                self._lose(f"{backend} forgot {self._said - welcome['remembered']} messages")
                return
            score.kept += 1
            if absence_s:
                world.story.tell(
                    f"{back} after {absence_s:.1f} s: still {backend}, which remembers all "
                    f"{self._said} messages",
                    "good",
                )
        elif cause := self._cause(former):
            score.moved += 1
            world.story.tell(f"{back}: {former.backend} {cause}, now with {backend}")
        else:
            self._lose(f"came through {node} to {backend}, but {former.backend} lives")
        self._said = int(welcome["remembered"])

    def _cause(self, former: Meeting) -> str:
        """Why the process that the client had met may not answer; empty where it should."""
        if self._world.generation(former.backend) != former.generation:
            return "is gone"
        return "was in maintenance" if self._world.is_excused(former.backend) else ""

    def _lose(self, what: str) -> None:
        self._world.score.lose(f"{self.name}: {what}")
        self._world.story.tell(f"{self.name} LOST ITS BACKEND: {what}", "bad")

    def _cookie_field(self) -> bytes:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items()).encode()

    def _keep_cookies(self, fields: Sequence[str]) -> None:
        for field in fields:
            try:
                morsels = SimpleCookie(field)
            except CookieError:
                continue
            self._cookies |= {name: morsel.value for name, morsel in morsels.items()}
