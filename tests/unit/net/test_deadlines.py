"""Time-outs are asked for when due, again when wanted, and never twice."""

from meshlb.net.deadlines import TICK_S, Deadlines


class Subject:
    def __init__(self, again_after: list[float | None]) -> None:
        self.asked_at: list[float] = []
        self._again_after = again_after

    def check_deadline(self, now: float) -> float | None:
        self.asked_at.append(now)
        after = self._again_after.pop(0)
        return None if after is None else now + after


def test_nothing_is_due_when_nothing_was_added():
    deadlines = Deadlines()
    assert deadlines.next_at == float("inf")
    deadlines.expire(10.0)
    assert deadlines.next_at == float("inf")


def test_a_subject_is_not_asked_before_its_time():
    deadlines = Deadlines()
    subject = Subject([None])
    deadlines.add(subject, 5.0)
    deadlines.expire(4.99)
    assert subject.asked_at == []
    assert 5.0 <= deadlines.next_at <= 5.0 + TICK_S + 1e-9


def test_a_subject_is_asked_at_most_one_tick_late_and_then_as_it_wishes():
    deadlines = Deadlines()
    subject = Subject([2.0, None])
    deadlines.add(subject, 5.0)
    deadlines.expire(5.0 + TICK_S + 1e-9)
    assert len(subject.asked_at) == 1
    deadlines.expire(6.0)
    assert len(subject.asked_at) == 1
    deadlines.expire(7.0 + 3 * TICK_S)
    assert len(subject.asked_at) == 2
    assert deadlines.next_at == float("inf")


def test_who_is_forgotten_is_not_asked_and_others_of_the_tick_are():
    deadlines = Deadlines()
    gone, other = Subject([]), Subject([None])
    tick = deadlines.add(gone, 5.0)
    assert deadlines.add(other, 5.0) == tick
    deadlines.forget(gone, tick)
    deadlines.expire(6.0)
    assert (gone.asked_at, other.asked_at) == ([], [6.0])


def test_to_forget_who_has_been_asked_changes_nothing():
    deadlines = Deadlines()
    subject = Subject([1.0, None])
    tick = deadlines.add(subject, 5.0)
    deadlines.expire(6.0)
    deadlines.forget(subject, tick)
    deadlines.expire(8.0)
    assert subject.asked_at == [6.0, 8.0]


def test_a_clock_that_jumps_asks_everybody_in_order_of_their_time():
    deadlines = Deadlines()
    asked: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def check_deadline(self, now: float) -> float | None:
            asked.append(self.name)
            return None

    for at, name in ((9.0, "c"), (1.0, "a"), (5.0, "b")):
        deadlines.add(Named(name), at)
    deadlines.expire(1_000.0)
    assert asked == ["a", "b", "c"]


def test_a_subject_that_is_due_at_once_is_asked_in_the_next_round_not_for_ever():
    deadlines = Deadlines()
    subject = Subject([0.0, None])
    deadlines.add(subject, 1.0)
    deadlines.expire(2.0)
    assert len(subject.asked_at) == 1
