from meshlb.core.sticky.alarms import Alarms
from tests.fakes.pins import a_key

ONE, TWO = a_key(1), a_key(2)


def test_alarms_ring_in_the_order_of_their_times() -> None:
    alarms = Alarms()
    alarms.set(ONE, 2.0)
    alarms.set(TWO, 1.0)
    assert alarms.next() == 1.0
    assert alarms.pop_due(0.9) is None
    assert [alarms.pop_due(2.0), alarms.pop_due(2.0), alarms.pop_due(2.0)] == [TWO, ONE, None]


def test_a_key_rings_only_at_the_time_that_was_set_last() -> None:
    alarms = Alarms()
    alarms.set(ONE, 1.0)
    alarms.set(ONE, 3.0)
    assert alarms.pop_due(2.0) is None
    assert alarms.pop_due(3.0) == ONE
    assert alarms.next() is None


def test_hastening_never_delays() -> None:
    alarms = Alarms()
    alarms.set(ONE, 2.0)
    alarms.hasten(ONE, 3.0)
    assert alarms.next() == 2.0
    alarms.hasten(ONE, 1.0)
    assert alarms.next() == 1.0


def test_a_cleared_alarm_does_not_ring() -> None:
    alarms = Alarms()
    alarms.set(ONE, 1.0)
    alarms.clear(ONE)
    assert alarms.pop_due(9.0) is None
