"""Simulated streams keep the order of what is sent, through cuts of one way or both, as TCP."""

import pytest

from meshlb.model import NodeName
from tests.sim.mesh.air import Air, Way
from tests.sim.mesh.pipes import WINDOW_FRAMES, End, Pipes
from tests.sim.mesh.world import World

A, B = NodeName("a"), NodeName("b")
FRAMES = 4 * WINDOW_FRAMES


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ways", [((B, A),), ((A, B),), ((A, B), (B, A))])
def test_frames_arrive_in_order_though_some_were_stuck(seed: int, ways: tuple[Way, ...]) -> None:
    world = World(seed)
    air = Air(world.chance("air"))
    pipes = Pipes(world, air, is_mute=lambda host: False)
    heard: list[int] = []
    here = End(A, lambda frame: None, lambda is_silence: None)
    there = End(B, heard.append, lambda is_silence: None)
    pipes.connect(here, there)
    for number in range(FRAMES):
        world.at(number * 0.0001, lambda n=number: here.send(n))  # type: ignore[misc]  # bound
    world.at(0.0005, lambda: air.cut(ways))
    world.run(0.5)
    air.mend(ways)
    pipes.mended()
    world.run(3.0)
    assert heard == list(range(FRAMES))
