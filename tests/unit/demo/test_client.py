import random

import httpx
import trio

from meshlb.demo.client import Client, Pace, World
from meshlb.demo.story import Event, Score, Story
from tests.fakes.backends import backends


def ignore(event: Event) -> None:
    """Nobody listens."""


async def play(nodes: dict[str, str], *, excused: bool = False) -> Score:
    """Let one client roam among `nodes` until it has come back a few times or lost."""
    score = Score()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        world = World(
            nodes=nodes,
            generation=lambda backend: 1,
            is_excused=lambda backend: excused,
            story=Story(trio.current_time, ignore),
            score=score,
            http=http,
            rng=random.Random(1),
            pace=Pace(speak_s=(0.0, 0.01), stay_s=(0.0, 0.1)),
        )
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Client("c", world).run)
                while True:
                    await trio.sleep(0.01)
                    if score.kept >= 3 or score.losses or score.moved >= 2:
                        break
                nursery.cancel_scope.cancel()
    return score


async def test_a_client_that_meets_the_same_backend_through_every_node_loses_nothing() -> None:
    async with backends("s1") as found:
        nodes = {"lb-1": found["s1"], "lb-2": found["s1"]}
        score = await play(nodes)
    assert score.losses == []
    assert score.kept == score.returns == score.through_another_node
    assert score.moved == 0


async def test_a_client_that_meets_another_backend_without_cause_has_lost_its_own() -> None:
    async with backends("s1", "s2") as found:
        score = await play({"lb-1": found["s1"], "lb-2": found["s2"]})
    assert score.losses


async def test_a_client_that_an_operator_moved_has_not_lost_its_backend() -> None:
    async with backends("s1", "s2") as found:
        nodes = {"lb-1": found["s1"], "lb-2": found["s2"]}
        score = await play(nodes, excused=True)
    assert score.losses == []
    assert score.moved == 2
