import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from meshlb.model import BackendName, PoolName
from meshlb.workers import board as board_module
from meshlb.workers.board import WORKERS_MAX, Board, Places

APP = PoolName("app")


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.make()
    yield board
    board.close()


def place_of(places: Places, pool: PoolName, name: str) -> int:
    place = places.of(pool, BackendName(name))
    assert place is not None
    return place


def test_what_one_worker_counts_all_see(board: Board) -> None:
    first = board.occupancy(3, worker=1, workers=2)
    second = board.occupancy(3, worker=2, workers=2)
    first.change(5)
    second.change(2)
    first.change(-1)
    assert [first.here(), second.here(), first.everywhere()] == [6, 6, 6]


def test_other_nodes_count_for_balancing_and_not_as_this_node_s(board: Board) -> None:
    mine = board.occupancy(0, worker=1, workers=1)
    mine.change(1)
    board.set_elsewhere(0, 10)
    assert (mine.here(), mine.everywhere()) == (1, 11)


def test_backends_do_not_mix(board: Board) -> None:
    last = board.occupancy(board_module.BACKENDS_MAX - 1, worker=WORKERS_MAX, workers=WORKERS_MAX)
    before = board.occupancy(board_module.BACKENDS_MAX - 2, worker=1, workers=WORKERS_MAX)
    last.change(7)
    assert (last.here(), before.here()) == (7, 0)


def test_the_connections_of_a_worker_that_is_gone_are_gone(board: Board) -> None:
    places = Places()
    s1, s2 = place_of(places, APP, "s1"), place_of(places, APP, "s2")
    for place in (s1, s2):
        board.occupancy(place, worker=1, workers=2).change(4)
        board.occupancy(place, worker=2, workers=2).change(1)
    board.clear(1, places.all)
    assert [board.occupancy(p, worker=2, workers=2).here() for p in (s1, s2)] == [1, 1]


def test_another_process_sees_what_is_written_here(board: Board) -> None:
    program = (
        "import sys; from meshlb.workers.board import Board; board = Board(int(sys.argv[1]));"
        "board.occupancy(2, worker=1, workers=1).change(9);"
        "print(board.changes(), board.is_degraded)"
    )
    board.note_write(True)
    board.note_write(True)
    board.set_degraded(True)
    told = subprocess.run(
        [sys.executable, "-c", program, str(board.fd)],
        pass_fds=[board.fd],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.split() == ["2", "True"]
    assert board.occupancy(2, worker=0, workers=1).here() == 9


def test_a_write_that_failed_is_no_change_and_degrades(board: Board) -> None:
    board.note_write(False)
    assert (board.changes(), board.is_degraded) == (0, True)
    board.set_degraded(False)
    assert not board.is_degraded


def test_a_place_stays_its_backend_s_and_a_full_board_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board_module, "BACKENDS_MAX", 2)
    places = Places()
    s1 = places.of(APP, BackendName("s1"))
    s2 = places.of(PoolName("other"), BackendName("s1"))
    assert s1 is not None
    assert s2 is not None
    assert s1 != s2
    assert places.of(APP, BackendName("s3")) is None
    assert places.of(APP, BackendName("s1")) == s1
