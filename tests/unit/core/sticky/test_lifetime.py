import pytest

from meshlb.core.sticky.lifetime import LINGER_S_MAX, fresh, lingers, renewed, touched, unheard_s
from meshlb.core.sticky.pin import NEVER
from tests.fakes.pins import NOW, a_key, a_pin, a_proposal

TTL_S = 100.0


def test_a_fresh_pin_lives_for_its_ttl() -> None:
    assert fresh(a_proposal(a_key(), ttl_s=TTL_S), NOW) == (NOW + TTL_S, NEVER)


def test_a_fresh_pin_lives_no_longer_than_its_max_age() -> None:
    assert fresh(a_proposal(a_key(), ttl_s=TTL_S, max_age_s=40.0), NOW) == (NOW + 40, NOW + 40)


def test_a_use_within_a_quarter_of_the_ttl_changes_nothing() -> None:
    assert touched(a_pin(expires_at=NOW + TTL_S), TTL_S, NOW + 24.9) is None


def test_a_use_after_a_quarter_of_the_ttl_gives_the_whole_ttl_again() -> None:
    pin = touched(a_pin(expires_at=NOW + TTL_S), TTL_S, NOW + 25)
    assert pin is not None
    assert pin.expires_at == NOW + 125


def test_no_use_extends_a_pin_beyond_its_end() -> None:
    pin = a_pin(expires_at=NOW + TTL_S, ends_at=NOW + 150)
    extended = touched(pin, TTL_S, NOW + 90)
    assert extended is not None
    assert extended.expires_at == NOW + 150
    assert touched(extended, TTL_S, NOW + 140) is None
    assert renewed(extended, TTL_S, NOW + 140).expires_at == NOW + 150


@pytest.mark.parametrize("after_s", [0.0, 24.9])
def test_an_expired_pin_lingers_for_as_long_as_a_use_may_be_unheard_of(after_s: float) -> None:
    assert lingers(a_pin(expires_at=NOW), TTL_S, NOW + after_s)


def test_a_pin_lingers_neither_before_its_expiry_nor_for_ever_nor_beyond_its_end() -> None:
    assert not lingers(a_pin(expires_at=NOW), TTL_S, NOW - 0.1)
    assert not lingers(a_pin(expires_at=NOW), TTL_S, NOW + 25)
    assert not lingers(a_pin(expires_at=NOW, ends_at=NOW), TTL_S, NOW)


def test_a_tombstone_does_not_linger() -> None:
    assert not lingers(a_pin("", expires_at=NOW), TTL_S, NOW)


def test_uses_are_heard_of_within_five_minutes_however_long_the_ttl() -> None:
    assert unheard_s(7 * 86_400) == LINGER_S_MAX
