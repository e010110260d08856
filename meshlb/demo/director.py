"""Runs the demo: starts everybody, lets things happen, and brings everybody home.

The one nursery here owns all tasks; the children are stopped after it, whatever ended it.
"""

import os
import random
import signal
import sys
import tempfile
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from meshlb.demo.child import Child, ending
from meshlb.demo.client import Client, World
from meshlb.demo.stage import Stage, build
from meshlb.demo.story import Event, Score, Story
from meshlb.demo.view import Picture, hints, line, summary
from meshlb.demo.watch import Watch
from meshlb.errors import MeshlbError

START_S: Final = 60.0
"""How long the mesh may take to come up on a busy machine."""
LOOK_S: Final = 0.2
REPORT_S: Final = 5.0
"""Between two lines on the state of things, where the terminal cannot redraw."""
FRAMES_PER_SECOND: Final = 4
RESTART_S: Final = 8.0
"""After which a child that died is started again; less in a short run."""
RESTART_LEAST_S: Final = 2.0
INTERRUPTED: Final = 130
"""What a shell reports for a command that Ctrl-C ended; here, before it had begun."""
CLIENT_PACE_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the command line asks for."""

    nodes: int
    backends: int
    clients: int
    seconds: float | None
    """None: until Ctrl-C."""
    port: int
    kills: bool
    """Kill a node a third in."""
    opens_browser: bool


def direct(plan: Plan) -> int:
    """Run the demo; the exit code is 0 only if no client lost its backend without cause."""
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    with tempfile.TemporaryDirectory(prefix="meshlb-demo-") as directory:
        try:
            stage = build(Path(directory), nodes=plan.nodes, backends=plan.backends, port=plan.port)
            return trio.run(Director(plan, stage, console).run)
        except MeshlbError as error:
            print(f"meshlb: {error}", file=sys.stderr)
            return 1


class Director:
    """One run of the demo."""

    def __init__(self, plan: Plan, stage: Stage, console: Console) -> None:
        self._plan = plan
        self._stage = stage
        self._console = console
        self._began = time.monotonic()
        self._score = Score()
        self._story = Story(lambda: time.monotonic() - self._began, self._on_event)
        self._starts = {child.name: 0 for child in stage.children}
        self._ended = False
        self._is_whole = False
        self._problem = ""
        """Why the mesh did not come up."""

    async def run(self) -> int:
        """From the first start to the last stop."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        async with httpx.AsyncClient(trust_env=False, limits=limits) as http:
            watch = Watch(self._stage.nodes, self._story, http)
            try:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_cancel_on_signal, scope)
                        await self._play(nursery, watch, http)
                        scope.cancel()
                conflicts = await self._count_conflicts(watch)
            finally:
                with trio.CancelScope(shield=True):
                    await self._bring_home()
        if self._problem:
            print(f"meshlb: {self._problem}", file=sys.stderr)
            return 1
        if not self._is_whole:
            return INTERRUPTED
        for text in summary(self._score, title=self._title(), conflicts=conflicts):
            self._console.print(Text(text))
        nobody_came = self._plan.clients > 0 and self._score.connections == 0
        return 1 if self._score.losses or nobody_came else 0

    async def _play(self, nursery: trio.Nursery, watch: Watch, http: httpx.AsyncClient) -> None:
        self._announce()
        for child in self._stage.children:
            self._start(child)
        self._problem = await self._wait_until_whole(watch)
        if self._problem:
            return
        self._is_whole = True
        self._story.tell("the mesh is whole: every node is ready and sees every other", "good")
        for child in self._stage.children:
            nursery.start_soon(self._keep_running, child)
        nursery.start_soon(watch.run)
        nursery.start_soon(self._start_clients, watch, http)
        if self._console.is_terminal:
            nursery.start_soon(self._draw, watch)
            if self._plan.opens_browser:
                nursery.start_soon(_open_browser, f"http://{self._stage.nodes[0].http}/")
        else:
            self._console.print(hints(self._stage))
            nursery.start_soon(self._report, watch)
        if self._plan.kills and self._plan.seconds is not None:
            nursery.start_soon(self._kill_a_node, self._plan.seconds / 3)
        await trio.sleep(float("inf") if self._plan.seconds is None else self._plan.seconds)

    def _announce(self) -> None:
        for number, node in enumerate(self._stage.nodes):
            wanted, got = self._plan.port + number, int(node.http.rpartition(":")[2])
            if wanted != got:
                self._story.tell(f"port {wanted} is in use; {node.name} takes {got}")

    def _start(self, child: Child) -> None:
        child.start()
        self._starts[child.name] += 1
        self._story.tell(f"{child.name} starts, pid {child.pid}", "quiet")

    async def _wait_until_whole(self, watch: Watch) -> str:
        """Empty once all is well; else who did not come up, with the end of its log."""
        with trio.move_on_after(START_S):
            while True:
                for child in self._stage.children:
                    if not child.is_running:
                        return f"{child.name} ended at once\n{child.last_words()}"
                await watch.look()
                up = [backend["state"] == "up" for backend in watch.backends.values()]
                if watch.is_whole and all(up):
                    return ""
                await trio.sleep(LOOK_S)
        words = [
            f"{node.name}: {node.child.last_words()}"
            for node in self._stage.nodes
            if not watch.sights[node.name].is_ready
        ]
        return "\n".join([f"the mesh did not come up within {START_S:g} s", *words])

    async def _keep_running(self, child: Child) -> None:
        """Start a child again whenever it died: by our hand, or that of whoever tries things."""
        restart_s = RESTART_S
        if self._plan.seconds is not None:
            restart_s = max(RESTART_LEAST_S, min(RESTART_S, self._plan.seconds / 4))
        while True:
            status = await child.wait()
            self._story.tell(
                f"{child.name} (pid {child.pid}) {ending(status)}; back in {restart_s:g} s", "bad"
            )
            await trio.sleep(restart_s)
            self._start(child)

    async def _kill_a_node(self, after_s: float) -> None:
        await trio.sleep(after_s)
        victim = self._stage.nodes[1]
        self._story.tell(
            f"the demo now kills {victim.name} (pid {victim.child.pid}) with SIGKILL; "
            "--no-kill leaves it alone"
        )
        victim.child.kill()

    async def _start_clients(self, watch: Watch, http: httpx.AsyncClient) -> None:
        world = World(
            nodes={node.name: node.http for node in self._stage.nodes},
            generation=self._generation,
            is_excused=watch.excused.__contains__,
            story=self._story,
            score=self._score,
            http=http,
            rng=random.Random(),
        )
        async with trio.open_nursery() as nursery:
            for number in range(1, self._plan.clients + 1):
                nursery.start_soon(Client(f"client-{number}", world).run)
                await trio.sleep(CLIENT_PACE_S)

    def _generation(self, backend: str) -> int:
        child = next((actor.child for actor in self._stage.backends if actor.name == backend), None)
        return self._starts[backend] if child is not None and child.is_running else 0

    async def _draw(self, watch: Watch) -> None:
        picture = Picture(self._stage, watch, self._score, self._story, self._title)
        with Live(picture, console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                live.refresh()
                await trio.sleep(1 / FRAMES_PER_SECOND)

    async def _report(self, watch: Watch) -> None:
        while True:
            await trio.sleep(REPORT_S)
            pins = ", ".join(f"{name} {seen['pins']}" for name, seen in watch.backends.items())
            self._story.tell(
                f"{self._score.connected} clients connected, {self._score.kept} of "
                f"{self._score.returns} returns to their backend, {self._score.moved} moved with "
                f"cause, {len(self._score.losses)} without; pins: {pins}"
            )

    def _on_event(self, event: Event) -> None:
        if not self._console.is_terminal and not self._ended:
            self._console.print(line(event))

    async def _count_conflicts(self, watch: Watch) -> int | None:
        with trio.move_on_after(3.0):
            return await watch.count_conflicts()
        return None

    async def _bring_home(self) -> None:
        """Stop all children, nodes before backends; each takes a bounded time."""
        self._ended = True
        for group in (self._stage.nodes, self._stage.backends):
            async with trio.open_nursery() as nursery:
                for actor in group:
                    nursery.start_soon(actor.child.stop)

    def _title(self) -> str:
        troupe = (
            (self._plan.nodes, "node"),
            (self._plan.backends, "backend"),
            (self._plan.clients, "client"),
        )
        named = [f"{count} {noun}{'s' * (count != 1)}" for count, noun in troupe]
        return f"meshlb demo: {', '.join(named)}, {time.monotonic() - self._began:.0f} s"


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return


async def _open_browser(url: str) -> None:
    """Only where there is a desktop: elsewhere a browser would take over this terminal."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin":
        await trio.to_thread.run_sync(webbrowser.open, url)
