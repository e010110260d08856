from meshlb.core.sticky.stamps import DRIFT_MS_MAX, StampClock


def test_stamps_follow_the_wall_clock() -> None:
    assert StampClock().draw(1_000.5) == 1_000_500


def test_stamps_grow_even_when_the_clock_stands_still_or_goes_back() -> None:
    clock = StampClock()
    assert clock.draw(2.0) < clock.draw(2.0) < clock.draw(1.0)


def test_a_stamp_is_later_than_every_stamp_seen() -> None:
    clock = StampClock()
    clock.observe(5_000, now=1.0)
    assert clock.draw(1.0) == 5_001


def test_a_peer_whose_clock_is_far_ahead_is_not_followed() -> None:
    clock = StampClock()
    clock.observe(1_000 + DRIFT_MS_MAX + 1, now=1.0)
    assert clock.draw(1.0) == 1_000
