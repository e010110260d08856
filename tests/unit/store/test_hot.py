from meshlb.store.hot import ABSENT_KEYS_MAX, HotPins
from tests.fakes.pins import a_key, a_pin

PIN = a_pin()


def test_what_was_put_last_is_found() -> None:
    hot = HotPins()
    hot.put(a_key(), PIN)
    hot.put(a_key(), a_pin("s2"))
    assert hot.get(a_key()) == a_pin("s2")
    assert hot.get(a_key(2)) is None


def test_it_is_bounded() -> None:
    hot = HotPins(pins_max=10)
    for number in range(100):
        hot.put(a_key(number), PIN)
    assert len(hot) <= 10
    assert hot.get(a_key(99)) is PIN
    assert hot.get(a_key(1)) is None


def test_what_is_used_stays() -> None:
    hot = HotPins(pins_max=10)
    hot.put(a_key(0), PIN)
    for number in range(1, 100):
        hot.put(a_key(number), PIN)
        assert hot.get(a_key(0)) is PIN


def test_what_is_dropped_is_gone_from_both_generations() -> None:
    hot = HotPins(pins_max=4)
    for number in range(4):
        hot.put(a_key(number), PIN)
    hot.get(a_key(0))
    for number in range(4):
        hot.drop(a_key(number))
        assert hot.get(a_key(number)) is None
    assert len(hot) == 0


def test_a_key_without_a_record_is_remembered_until_it_has_one() -> None:
    hot = HotPins()
    assert a_key() not in hot.absent
    hot.note_absent(a_key())
    assert a_key() in hot.absent
    hot.put(a_key(), PIN)
    assert a_key() not in hot.absent
    hot.drop(a_key())
    assert a_key() not in hot.absent


def test_the_keys_without_a_record_are_bounded() -> None:
    hot = HotPins()
    for number in range(ABSENT_KEYS_MAX + 1):
        hot.note_absent(a_key(number))
    assert sum(a_key(number) in hot.absent for number in range(ABSENT_KEYS_MAX + 1)) == 1
