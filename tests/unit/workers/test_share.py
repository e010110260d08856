from collections.abc import Iterator

import pytest
import trio
import trio.testing

from meshlb.workers.board import VACANT, Board
from meshlb.workers.share import AHEAD_MAX, ASIDE_S, IN_ANY_CASE_MAX, Share


class Scene:
    def __init__(self, board: Board) -> None:
        self.board = board
        self.clients = 0
        self.share = Share(board, worker=1, workers=3, clients=lambda: self.clients)


@pytest.fixture
def scene() -> Iterator[Scene]:
    board = Board.make()
    yield Scene(board)
    board.close()


def test_who_is_not_far_ahead_takes_the_next_client(scene: Scene) -> None:
    scene.board.set_clients(2, 10)
    scene.board.set_clients(3, 12)
    scene.clients = 10 + AHEAD_MAX
    assert not scene.share.yields()
    scene.clients += 1
    assert scene.share.yields()
    assert scene.board.least_clients(3) == 10


def test_nobody_steps_aside_for_who_lets_nobody_in(scene: Scene) -> None:
    scene.clients = 1_000
    assert not scene.share.yields()
    scene.board.set_clients(2, 5)
    assert scene.share.yields()
    scene.board.clear(2, {})
    assert scene.board.least_clients(3) == 1_000
    assert not scene.share.yields()
    assert VACANT > 1_000


async def test_after_a_moment_some_are_taken_in_any_case_and_more_if_nobody_else_does(
    scene: Scene, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene.share.nursery = nursery
    scene.board.set_clients(2, 1)
    scene.clients = 100
    taken: list[int] = []

    async def step_aside() -> None:
        assert scene.share.yields()
        resumed = trio.Event()
        scene.share.later(resumed.set)
        before = trio.current_time()
        await resumed.wait()
        assert trio.current_time() == pytest.approx(before + ASIDE_S)
        taken.append(0)
        while scene.share._in_any_case:
            assert not scene.share.yields()
            taken[-1] += 1

    await step_aside()
    for _ in range(8):
        await step_aside()
    assert taken == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert taken[-1] == IN_ANY_CASE_MAX
    scene.board.set_clients(2, 5)
    await step_aside()
    assert taken[-1] == 1
