from meshlb.cluster.dials import DIAL_SECOND_S, DIAL_WAIT_S_MAX, Dials
from meshlb.model import NodeName

A, B = NodeName("a"), NodeName("b")


def attempts(dials: Dials, member: NodeName, *, until: float) -> list[float]:
    """When `member` is dialled, asked every 50 ms."""
    times = [step / 20 for step in range(round(until * 20))]
    return [now for now in times if dials.is_due(member, now)]


def test_the_lower_of_two_names_dials_at_once_and_the_other_one_only_if_that_failed() -> None:
    assert attempts(Dials(A), B, until=0.1) == [0.0]
    assert attempts(Dials(B), A, until=DIAL_SECOND_S) == []
    assert attempts(Dials(B), A, until=DIAL_SECOND_S + 0.1) == [DIAL_SECOND_S]


def test_attempts_never_end_and_slow_down_to_the_longest_wait() -> None:
    times = attempts(Dials(A), B, until=60.0)
    assert times[:4] == [0.0, 0.5, 1.5, 3.5]
    assert times[-1] - times[-2] == DIAL_WAIT_S_MAX
    assert times[-1] >= 60.0 - DIAL_WAIT_S_MAX


def test_after_a_stream_it_begins_anew() -> None:
    dials = Dials(A)
    assert len(attempts(dials, B, until=10.0)) > 3
    dials.done(B)
    assert dials.is_due(B, 10.0)
