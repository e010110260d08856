from meshlb.core.sticky.merge import (
    TOMBSTONE_GRACE_S,
    TOMBSTONE_HELD_S_MAX,
    is_conflict,
    merge,
    prolonged,
    same_pin,
    tombstone,
)
from meshlb.model import NodeName
from meshlb.wire.messages import Rank
from tests.fakes.pins import NOW, a_pin


def test_a_higher_epoch_wins_whatever_its_rank() -> None:
    old, new = a_pin("s1", epoch=1), a_pin("s2", epoch=2, rank=Rank.PROVISIONAL)
    assert merge(old, new) is new
    assert merge(new, old) is new


def test_within_an_epoch_the_higher_rank_wins_whatever_its_stamp() -> None:
    early = a_pin("s1", rank=Rank.MINORITY, stamp_ms=1)
    agreed = a_pin("s2", rank=Rank.QUORATE, stamp_ms=9)
    assert merge(early, agreed) is agreed


def test_within_a_rank_the_earlier_stamp_wins() -> None:
    early, late = a_pin("s1", stamp_ms=1), a_pin("s2", stamp_ms=2)
    assert merge(late, early) is early


def test_the_claimer_decides_between_equal_stamps() -> None:
    one, other = a_pin("s1", claimer="n1"), a_pin("s2", claimer="n2")
    assert merge(one, other) == merge(other, one) == other


def test_equal_pins_keep_the_later_expiry_and_the_earlier_end() -> None:
    one = a_pin(expires_at=NOW + 10, ends_at=NOW + 100)
    other = a_pin(expires_at=NOW + 20, ends_at=NOW + 90)
    merged = merge(one, other)
    assert same_pin(merged, one)
    assert (merged.expires_at, merged.ends_at) == (NOW + 20, NOW + 90)


def test_a_pin_that_adds_nothing_leaves_the_very_same_object() -> None:
    mine = a_pin(expires_at=NOW + 20)
    assert merge(mine, a_pin(expires_at=NOW + 10)) is mine


def test_two_agreed_backends_of_one_epoch_are_a_conflict() -> None:
    assert is_conflict(a_pin("s1"), a_pin("s2"))
    assert not is_conflict(a_pin("s1"), a_pin("s1", stamp_ms=2))
    assert not is_conflict(a_pin("s1"), a_pin("s2", epoch=1))
    assert not is_conflict(a_pin("s1"), a_pin("s2", rank=Rank.PROVISIONAL))
    assert not is_conflict(a_pin("s1"), a_pin(""))


def test_a_tombstone_beats_its_pin_and_outlives_it_by_the_grace_period() -> None:
    pin = a_pin(epoch=4, expires_at=NOW + 7_200)
    stone = tombstone(pin, stamp_ms=5, by=NodeName("n2"), now=NOW)
    assert merge(pin, stone) is stone
    assert stone.is_tombstone
    assert stone.epoch == 5
    assert stone.expires_at == pin.expires_at + TOMBSTONE_GRACE_S


def test_a_tombstone_is_prolonged_by_its_grace_until_it_is_too_old() -> None:
    stone = a_pin("", stamp_ms=round(NOW * 1_000), expires_at=NOW + TOMBSTONE_GRACE_S)
    latest = NOW + TOMBSTONE_HELD_S_MAX
    longer = prolonged(stone, now=latest)
    assert longer is not None
    assert same_pin(longer, stone)
    assert longer.expires_at == latest + TOMBSTONE_GRACE_S
    assert prolonged(stone, now=latest + 1.0) is None
