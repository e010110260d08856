from meshlb.model import SessionKey
from meshlb.store.unwritten import Unwritten
from tests.fakes.pins import a_pin

KEYS = [SessionKey(bytes([number]) * 16) for number in range(6)]


def held(*places: int) -> Unwritten:
    unwritten = Unwritten()
    for place in places:
        unwritten.put(KEYS[place], a_pin(f"s{place}"))
    return unwritten


def keys(unwritten: Unwritten, after: bytes, upto: bytes | None) -> list[SessionKey]:
    return [key for key, _ in unwritten.between(after, upto)]


def test_it_is_walked_in_the_order_of_keys_whatever_the_order_of_writing() -> None:
    unwritten = held(3, 1, 4)
    assert keys(unwritten, b"", None) == [KEYS[1], KEYS[3], KEYS[4]]
    unwritten.put(KEYS[2], a_pin("s2"))
    assert keys(unwritten, b"", None) == [KEYS[1], KEYS[2], KEYS[3], KEYS[4]]


def test_a_walk_begins_behind_a_key_and_ends_with_one() -> None:
    unwritten = held(0, 1, 2, 3, 4)
    assert keys(unwritten, KEYS[1], KEYS[3]) == [KEYS[2], KEYS[3]]


def test_a_pin_that_is_written_again_is_walked_once_and_as_it_is_now() -> None:
    unwritten = held(1, 2)
    assert keys(unwritten, b"", None) == [KEYS[1], KEYS[2]]
    unwritten.put(KEYS[1], a_pin("s5"))
    assert [pin.backend for _, pin in unwritten.between(b"", None)] == ["s5", "s2"]


def test_the_oldest_are_forgotten_first() -> None:
    unwritten = held(3, 1, 4)
    assert keys(unwritten, b"", None)
    assert [key for key, _ in unwritten.forget_oldest(2)] == [KEYS[3], KEYS[1]]
    assert keys(unwritten, b"", None) == [KEYS[4]]
    assert unwritten.forget_oldest(-1) == []


def test_nothing_is_left_once_all_is_written() -> None:
    unwritten = held(1, 2)
    unwritten.clear()
    assert not unwritten
    assert unwritten.get(KEYS[1]) is None
    assert keys(unwritten, b"", None) == []
