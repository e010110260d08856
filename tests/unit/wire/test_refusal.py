import pytest

from meshlb.wire.refusal import Refusal


@pytest.mark.parametrize("refusal", Refusal)
def test_each_refusal_is_known_by_its_reason(refusal: Refusal) -> None:
    assert Refusal.of(refusal.value) is refusal


def test_a_reason_that_only_a_later_version_knows_is_unknown() -> None:
    assert Refusal.of("full-moon") is Refusal.UNKNOWN
