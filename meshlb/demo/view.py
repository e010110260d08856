"""How the demo looks in a terminal: a picture of the stage, the watch, the score and the story."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from meshlb.demo.stage import Stage
from meshlb.demo.story import Event, Score, Story
from meshlb.demo.watch import Watch

BAR_CELLS: Final = 24
EVENTS_LEAST: Final = 1

COLOURS: Final = {
    "alive": "green",
    "up": "green",
    "ready": "green",
    "suspect": "yellow",
    "draining": "yellow",
    "starting": "yellow",
    "dead": "bold red",
    "down": "bold red",
    "gone": "bold red",
}
TONES: Final = {"good": "green", "bad": "bold red", "quiet": "dim", "plain": ""}


@dataclass(frozen=True, slots=True)
class Picture:
    """Renders itself anew from what it refers to, each time it is drawn."""

    stage: Stage
    watch: Watch
    score: Score
    story: Story
    title: Callable[[], str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many events as the height leaves room for."""
        above: list[RenderableType] = [
            Text(self.title(), style="bold"),
            Text(),
            self._nodes(),
            Text(),
            self._backends(),
            Text(),
            self._clients(),
            Text(),
        ]
        below = Panel(hints(self.stage), title="try this", title_align="left", border_style="dim")
        taken = sum(len(console.render_lines(part, options)) for part in (*above, below)) + 2
        shown = max(EVENTS_LEAST, options.max_height - taken)
        events = [line(event) for event in list(self.story.events)[-shown:]]
        yield Group(*above, *events, Text(), below)

    def _nodes(self) -> Table:
        table = _grid("node", "pid", "state", "open in a browser", "#pins", "#tunnels", "sees")
        for node in self.stage.nodes:
            sight = self.watch.sights[node.name]
            state = "ready" if sight.is_ready else "starting" if node.child.is_running else "gone"
            seen = Text(" ").join(
                Text(name, style=COLOURS.get(at, "dim")) for name, at in sight.members.items()
            )
            connections = sum(backend["connections"] for backend in sight.backends.values())
            table.add_row(
                node.name,
                str(node.child.pid),
                Text(state, style=COLOURS[state]),
                f"http://{node.http}/",
                str(sight.status.get("pins", "")),
                str(connections) if sight.answers else "",
                seen,
            )
        return table

    def _backends(self) -> Table:
        table = _grid("backend", "pid", "state", "#connections", "#pins", "")
        known = self.watch.backends
        most = max([1, *(backend["pins"] for backend in known.values())])
        for backend in self.stage.backends:
            seen = known.get(backend.name, {})
            state = str(seen.get("state", "starting"))
            pins = int(seen.get("pins", 0))
            table.add_row(
                backend.name,
                str(backend.child.pid),
                Text(state, style=COLOURS.get(state, "dim")),
                str(seen.get("connections", "")),
                str(pins),
                Text("█" * round(BAR_CELLS * pins / most), style="cyan"),
            )
        return table

    def _clients(self) -> Text:
        score = self.score
        text = Text(
            f"{score.connected} clients, {score.said:,} messages, {score.returns} returns: "
        )
        text.append(f"{score.kept} to their backend", style="green")
        text.append(f", {score.moved} moved with cause, ")
        style = "bold red" if score.losses else "green"
        text.append(f"{len(score.losses)} without cause", style=style)
        return text


def hints(stage: Stage) -> Text:
    """What to try, with the pids and addresses of now."""
    node, backend = stage.nodes[-1], stage.backends[0]
    text = Text()
    for what, how in (
        ("chat in a browser", f"http://{stage.nodes[0].http}/"),
        (
            "kill a node",
            f"kill -9 {node.child.pid}   # {node.name}: its clients come back elsewhere",
        ),
        (
            "kill a backend",
            f"kill -9 {backend.child.pid}   # {backend.name}: its sessions move, once",
        ),
        ("drain a backend", f"meshlb drain --admin http://{node.admin} {stage.backends[-1].name}"),
        ("look inside", f"http://{stage.nodes[0].admin}/   # the dashboard"),
    ):
        text.append(f"{what:<19}", style="dim")
        text.append(how + "\n")
    text.right_crop(1)
    return text


def line(event: Event) -> Text:
    """An event on one line."""
    text = Text(f"{event.at_s:7.1f}s  ", style="dim", no_wrap=True, overflow="ellipsis")
    text.append(event.text, style=TONES[event.tone])
    return text


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        is_number = column.startswith("#")
        justify = "right" if is_number else "left"
        table.add_column(column.lstrip("#"), justify=justify)  # type: ignore[arg-type]  # a Literal
    return table


def summary(score: Score, *, title: str, conflicts: int | None) -> Sequence[str]:
    """How it went, for the end."""
    told = "unknown" if conflicts is None else str(conflicts)
    return (
        title,
        f"  messages              {score.said:,}, and {score.asked:,} requests by other nodes",
        f"  connections lost      {score.dropped}",
        f"  returns               {score.returns}, {score.through_another_node} by another node",
        f"  kept their backend    {score.kept}",
        f"  moved with cause      {score.moved}",
        f"  lost without cause    {len(score.losses)}",
        f"  longest absence       {score.longest_absence_s:.1f} s",
        f"  conflicting pins      {told}",
        *(f"    {loss}" for loss in score.losses),
    )
