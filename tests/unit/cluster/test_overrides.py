from meshlb.cluster import overrides
from meshlb.cluster.overrides import OVERRIDES_MAX, Overrides
from meshlb.model import BackendName, BackendState, NodeName, PoolName
from meshlb.wire.messages import BackendOverride

APP, S1 = PoolName("app"), BackendName("s1")
A, B = NodeName("a"), NodeName("b")


def word(state: BackendState, stamp_ms: int, by: NodeName = B) -> BackendOverride:
    return BackendOverride(APP, S1, state, stamp_ms, by)


def test_the_latest_word_stays_in_whatever_order_they_come() -> None:
    early, late = word(BackendState.DRAINING, 1), word(BackendState.UP, 2)
    for order in ((early, late), (late, early), (late, early, late)):
        known = Overrides(A)
        for heard in order:
            known.hear(heard)
        assert known.all() == (late,)


def test_of_two_words_at_once_the_greater_name_s_stays() -> None:
    known = Overrides(A)
    assert known.hear(word(BackendState.UP, 5, A))
    assert known.hear(word(BackendState.DRAINING, 5, B))
    assert not known.hear(word(BackendState.UP, 5, A))


def test_an_own_word_is_later_than_all_known_ones_whatever_the_clock_says() -> None:
    known = Overrides(A)
    known.hear(word(BackendState.DRAINING, 10_000))
    said = known.say(APP, S1, BackendState.UP, wall_ms=5)
    assert said.stamp_ms == 10_001
    assert known.all() == (said,)


def test_health_is_no_operators_word() -> None:
    assert not Overrides(A).hear(word(BackendState.DOWN, 1))


def test_words_are_bounded() -> None:
    known = Overrides(A)
    for number in range(OVERRIDES_MAX):
        name = BackendName(f"s{number}")
        assert known.hear(BackendOverride(APP, name, BackendState.UP, 1, B))
    assert not known.hear(BackendOverride(APP, BackendName("more"), BackendState.UP, 1, B))
    assert known.hear(BackendOverride(APP, BackendName("s0"), BackendState.UP, 2, B))
    assert len(known.all()) == overrides.OVERRIDES_MAX
