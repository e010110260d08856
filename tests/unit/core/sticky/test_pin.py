import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from meshlb.core.sticky.pin import (
    EPOCH_MAX,
    LIFETIME_S_MAX,
    NEVER,
    STAMP_MS_MAX,
    epoch_after,
    is_acceptable,
    pin_from_record,
    record_from_pin,
)
from tests.fakes.pins import NOW, a_key, a_pin, a_proposal

RECORD = record_from_pin(a_key(), a_pin(), now=NOW)


def test_a_pin_lives_until_it_expires() -> None:
    pin = a_pin(expires_at=NOW + 1)
    assert pin.is_live(NOW)
    assert not pin.is_live(NOW + 1)


def test_a_tombstone_never_lives() -> None:
    stone = a_pin("")
    assert stone.is_tombstone
    assert not stone.is_live(NOW)


@given(lifetime_s=st.floats(0.001, 600_000), max_age_s=st.none() | st.floats(0.001, 1_000_000))
def test_a_pin_travels_with_durations_and_arrives_as_it_was(
    lifetime_s: float, max_age_s: float | None
) -> None:
    ends_at = NEVER if max_age_s is None else NOW + max_age_s
    pin = a_pin(expires_at=min(NOW + lifetime_s, ends_at), ends_at=ends_at)
    record = record_from_pin(a_key(), pin, now=NOW)
    arrived = pin_from_record(record, now=NOW)
    assert abs(arrived.expires_at - pin.expires_at) <= 0.001
    assert arrived.ends_at == ends_at or abs(arrived.ends_at - ends_at) <= 0.001
    assert dataclasses.replace(arrived, expires_at=0.0, ends_at=NEVER) == dataclasses.replace(
        pin, expires_at=0.0, ends_at=NEVER
    )


def test_an_expired_pin_travels_without_time_left_but_keeps_its_end() -> None:
    record = record_from_pin(a_key(), a_pin(expires_at=NOW - 5, ends_at=NOW - 5), now=NOW)
    assert record.expires_in_ms == 0
    assert record.ends_in_ms == 1


def test_a_peer_cannot_make_a_pin_immortal() -> None:
    pin = pin_from_record(dataclasses.replace(RECORD, expires_in_ms=2**64 - 1), now=NOW)
    assert pin.expires_at == NOW + LIFETIME_S_MAX


def test_nor_give_it_an_end_that_no_store_can_keep() -> None:
    pin = pin_from_record(dataclasses.replace(RECORD, ends_in_ms=2**64 - 1), now=NOW)
    assert pin.ends_at == NOW + LIFETIME_S_MAX


def test_after_the_last_epoch_there_is_no_other() -> None:
    assert epoch_after(0) == 1
    assert epoch_after(EPOCH_MAX - 1) == epoch_after(EPOCH_MAX) == EPOCH_MAX


def test_a_record_that_no_store_can_keep_is_not_acceptable() -> None:
    assert is_acceptable(dataclasses.replace(RECORD, epoch=EPOCH_MAX, stamp_ms=STAMP_MS_MAX))
    assert not is_acceptable(dataclasses.replace(RECORD, epoch=EPOCH_MAX + 1))
    assert not is_acceptable(dataclasses.replace(RECORD, stamp_ms=STAMP_MS_MAX + 1))


def test_a_first_claim_rejects_no_live_pin() -> None:
    assert not a_proposal(a_key()).rejects(a_pin())


def test_a_move_rejects_what_it_moves_from_and_everything_older() -> None:
    move = a_proposal(a_key(), "s2", moved_from="s1", moved_from_epoch=3)
    assert move.rejects(a_pin("s1", epoch=3))
    assert move.rejects(a_pin("s9", epoch=2))


def test_a_move_accepts_another_backend_of_the_same_epoch_and_everything_newer() -> None:
    move = a_proposal(a_key(), "s2", moved_from="s1", moved_from_epoch=3)
    assert not move.rejects(a_pin("s9", epoch=3))
    assert not move.rejects(a_pin("s1", epoch=4))
