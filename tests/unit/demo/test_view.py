import io
from pathlib import Path

import httpx
import pytest
import trio
from rich.console import Console

from meshlb.demo.stage import Stage, build
from meshlb.demo.story import Event, Score, Story
from meshlb.demo.view import Picture, summary
from meshlb.demo.watch import Sight, Watch


def ignore(event: Event) -> None:
    """Nobody listens."""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return build(tmp_path, nodes=2, backends=2, port=18_080)


async def draw(stage: Stage, *, height: int) -> str:
    story = Story(trio.current_time, ignore)
    for number in range(100):
        story.tell(f"event {number}")
    backend = {"name": "s1", "state": "up", "pins": 7, "connections": 3}
    async with httpx.AsyncClient() as http:
        watch = Watch(stage.nodes, story, http)
    watch.sights["lb-1"] = Sight(
        status={"ready": True, "pins": 7},
        members={"lb-1": "alive", "lb-2": "dead"},
        backends={"s1": backend},
    )
    score = Score(connected=12, returns=9, kept=8, moved=1)
    console = Console(file=io.StringIO(), width=120, height=height)
    with console.capture() as drawn:
        console.print(Picture(stage, watch, score, story, lambda: "the title"))
    return drawn.get()


async def test_a_picture_shows_everybody_and_what_to_try(stage: Stage) -> None:
    text = await draw(stage, height=40)
    for expected in ("the title", "lb-1", "lb-2", "s1", "s2", "12 clients", "kill -9", "event 99"):
        assert expected in text
    assert f"http://{stage.nodes[0].http}/" in text


async def test_a_picture_fits_its_terminal(stage: Stage) -> None:
    for height in (24, 40, 60):
        text = await draw(stage, height=height)
        assert len(text.splitlines()) <= height


def test_a_summary_names_every_loss() -> None:
    score = Score(returns=2)
    score.lose("client-1: came to s2")
    lines = summary(score, title="the title", conflicts=0)
    assert any("lost without cause    1" in line for line in lines)
    assert any("client-1: came to s2" in line for line in lines)
