import math

from meshlb.cluster.gathering import GATHER_S, PEERS_AT_ONCE_MAX, Gathering

MANY = PEERS_AT_ONCE_MAX + 1


def test_among_few_nothing_ever_waits() -> None:
    gathering = Gathering()
    for step in range(5):
        now = step * GATHER_S / 10
        assert not gathering.holds_back(PEERS_AT_ONCE_MAX, now, has_news=True)
    assert gathering.next_deadline() == math.inf


def test_among_many_what_follows_soon_waits_and_goes_out_together() -> None:
    gathering = Gathering()
    assert not gathering.holds_back(MANY, 1.0, has_news=True)
    assert gathering.holds_back(MANY, 1.0 + GATHER_S / 2, has_news=True)
    assert gathering.next_deadline() == 1.0 + GATHER_S
    assert not gathering.holds_back(MANY, 1.0 + GATHER_S, has_news=True)
    assert gathering.next_deadline() == math.inf


def test_what_comes_after_a_pause_goes_out_at_once() -> None:
    gathering = Gathering()
    gathering.holds_back(MANY, 1.0, has_news=True)
    assert not gathering.holds_back(MANY, 1.0 + 2 * GATHER_S, has_news=True)


def test_turns_without_news_neither_begin_a_wait_nor_set_an_alarm() -> None:
    gathering = Gathering()
    assert not gathering.holds_back(MANY, 1.0, has_news=False)
    assert not gathering.holds_back(MANY, 1.001, has_news=True)
    assert gathering.holds_back(MANY, 1.002, has_news=False)
    assert gathering.next_deadline() == math.inf
