import pytest

from meshlb.core.sticky.barrier import MARKS_MAX, Barrier
from meshlb.model import NodeName

ME, B, C = NodeName("a"), NodeName("b"), NodeName("c")
ALL = frozenset({ME, B, C})


@pytest.fixture
def barrier() -> Barrier:
    barrier = Barrier(ME)
    barrier.enter(1, ALL)
    return barrier


def test_who_owns_alone_waits_for_nobody() -> None:
    barrier = Barrier(ME)
    barrier.enter(1, frozenset({ME}))
    assert barrier.is_complete


def test_it_is_complete_once_every_other_owner_has_marked_the_view(barrier: Barrier) -> None:
    barrier.mark(B, 1)
    assert barrier.missing == {C}
    barrier.mark(C, 1)
    assert barrier.is_complete


def test_the_mark_of_another_view_does_not_count(barrier: Barrier) -> None:
    barrier.mark(B, 2)
    barrier.mark(C, 1)
    assert barrier.missing == {B}


def test_a_mark_that_came_ahead_of_the_view_counts(barrier: Barrier) -> None:
    barrier.mark(B, 2)
    barrier.mark(C, 2)
    barrier.enter(2, ALL)
    assert barrier.is_complete


def test_an_owner_that_goes_on_to_another_view_has_to_mark_this_one_again(
    barrier: Barrier,
) -> None:
    barrier.mark(B, 1)
    barrier.mark(C, 1)
    barrier.mark(B, 2)
    assert barrier.missing == {B}
    barrier.mark(B, 1)
    assert barrier.is_complete


def test_a_new_stream_voids_the_mark_of_the_old_one(barrier: Barrier) -> None:
    barrier.mark(B, 1)
    barrier.mark(C, 1)
    barrier.void(B)
    assert barrier.missing == {B}


def test_who_is_no_owner_is_not_waited_for(barrier: Barrier) -> None:
    barrier.enter(2, frozenset({ME, B}))
    barrier.mark(C, 9)
    barrier.void(C)
    barrier.mark(B, 2)
    assert barrier.is_complete


def test_strangers_cannot_fill_the_memory_nor_crowd_out_an_owner(barrier: Barrier) -> None:
    for number in range(MARKS_MAX + 10):
        barrier.mark(NodeName(f"stranger-{number}"), 5)
    barrier.mark(B, 1)
    barrier.mark(C, 1)
    assert barrier.is_complete
    barrier.enter(2, ALL)
    barrier.enter(1, ALL)
    assert barrier.is_complete
