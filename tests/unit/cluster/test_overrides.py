from collections.abc import Iterable

from structlog.testing import capture_logs

from meshlb.cluster import overrides
from meshlb.cluster.overrides import OVERRIDES_MAX, Overrides
from meshlb.errors import StoreError
from meshlb.model import BackendName, BackendState, NodeName, PoolName
from meshlb.wire.messages import BackendOverride

APP, S1 = PoolName("app"), BackendName("s1")
A, B = NodeName("a"), NodeName("b")


def word(state: BackendState, stamp_ms: int, by: NodeName = B) -> BackendOverride:
    return BackendOverride(APP, S1, state, stamp_ms, by)


class Kept:
    """A disk; `is_full` makes it fail."""

    def __init__(self) -> None:
        self.words: tuple[BackendOverride, ...] = ()
        self.saves = 0
        self.is_full = False

    def load(self) -> tuple[BackendOverride, ...]:
        return self.words

    def save(self, words: Iterable[BackendOverride]) -> None:
        if self.is_full:
            raise StoreError("no space left on device")
        self.saves += 1
        self.words = tuple(words)


def test_the_latest_word_stays_in_whatever_order_they_come() -> None:
    early, late = word(BackendState.DRAINING, 1), word(BackendState.UP, 2)
    for order in ((early, late), (late, early), (late, early, late)):
        known = Overrides(A, Kept())
        for heard in order:
            known.hear(heard)
        assert known.all() == (late,)


def test_of_two_words_at_once_the_greater_name_s_stays() -> None:
    known = Overrides(A, Kept())
    assert known.hear(word(BackendState.UP, 5, A))
    assert known.hear(word(BackendState.DRAINING, 5, B))
    assert not known.hear(word(BackendState.UP, 5, A))


def test_an_own_word_is_later_than_all_known_ones_whatever_the_clock_says() -> None:
    known = Overrides(A, Kept())
    known.hear(word(BackendState.DRAINING, 10_000))
    said = known.say(APP, S1, BackendState.UP, wall_ms=5)
    assert said.stamp_ms == 10_001
    assert known.all() == (said,)


def test_a_stamp_at_the_end_of_time_does_not_grow_beyond_what_travels() -> None:
    known = Overrides(A, Kept())
    known.hear(word(BackendState.DRAINING, 2**64 - 1))
    assert known.say(APP, S1, BackendState.UP, wall_ms=5).stamp_ms == 2**64 - 1


def test_health_is_no_operators_word() -> None:
    assert not Overrides(A, Kept()).hear(word(BackendState.DOWN, 1))


def test_words_are_bounded() -> None:
    known = Overrides(A, Kept())
    for number in range(OVERRIDES_MAX):
        name = BackendName(f"s{number}")
        assert known.hear(BackendOverride(APP, name, BackendState.UP, 1, B))
    assert not known.hear(BackendOverride(APP, BackendName("more"), BackendState.UP, 1, B))
    assert known.hear(BackendOverride(APP, BackendName("s0"), BackendState.UP, 2, B))
    assert len(known.all()) == overrides.OVERRIDES_MAX


def test_an_own_word_is_kept_before_anybody_hears_it_and_a_restart_begins_with_it() -> None:
    kept = Kept()
    said = Overrides(A, kept).say(APP, S1, BackendState.DRAINING, wall_ms=5)
    assert kept.words == (said,)
    again = Overrides(A, kept)
    assert again.on(APP, S1) == said
    assert not again.hear(said)


def test_words_of_others_are_written_together_and_only_if_they_are_news() -> None:
    kept = Kept()
    known = Overrides(A, kept)
    for number in range(3):
        name = BackendName(f"s{number}")
        known.hear(BackendOverride(APP, name, BackendState.UP, 1, B))
    known.keep()
    known.hear(word(BackendState.UP, 1))
    known.keep()
    assert (kept.saves, len(kept.words)) == (1, 3)


def test_a_full_disk_keeps_no_operator_waiting_and_is_written_once_it_has_room() -> None:
    kept = Kept()
    kept.is_full = True
    known = Overrides(A, kept)
    with capture_logs() as lines:
        said = known.say(APP, S1, BackendState.DRAINING, wall_ms=5)
    assert [line["log_level"] for line in lines] == ["error"]
    assert known.on(APP, S1) == said
    kept.is_full = False
    known.keep()
    assert kept.words == (said,)
