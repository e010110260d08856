import pytest

from meshlb.core.sticky.homes import SLOTS, Homes, slot_of, weight
from meshlb.model import NodeName, SessionKey

FIVE = [NodeName(f"lb-{number}") for number in range(5)]


def test_the_slot_of_a_key_is_its_first_ten_bits() -> None:
    assert slot_of(SessionKey(b"\x00\x3f" + bytes(14))) == 0
    assert slot_of(SessionKey(b"\x00\x40" + bytes(14))) == 1
    assert slot_of(SessionKey(b"\xff" * 16)) == SLOTS - 1


def test_the_weight_is_fixed_for_all_versions() -> None:
    """Nodes of different versions must agree on it."""
    assert weight(7, NodeName("lb-1")).hex() == "6686aab06a83d27b"


def test_without_owners_nobody_is_home_and_with_one_there_is_no_backup() -> None:
    assert Homes(()).slot_holders(3) == (None, None)
    assert Homes(FIVE[:1]).slot_holders(3) == (FIVE[0], None)


def test_the_order_of_owners_makes_no_difference() -> None:
    one, other = Homes(FIVE), Homes(reversed(FIVE))
    assert all(one.slot_holders(slot) == other.slot_holders(slot) for slot in range(SLOTS))


def test_slots_are_spread_evenly() -> None:
    homes = Homes(FIVE)
    owned = [homes.slot_holders(slot)[0] for slot in range(SLOTS)]
    assert all(150 < owned.count(owner) < 260 for owner in FIVE)


@pytest.mark.parametrize("gone", FIVE)
def test_when_an_owner_goes_only_its_slots_move_and_the_backup_becomes_home(gone: NodeName) -> None:
    before, after = Homes(FIVE), Homes([owner for owner in FIVE if owner != gone])
    for slot in range(SLOTS):
        home, backup = before.slot_holders(slot)
        assert after.slot_holders(slot)[0] == (backup if home == gone else home)


def test_the_backup_of_who_joins_is_the_home_before() -> None:
    before, after = Homes(FIVE[:4]), Homes(FIVE)
    moved = [slot for slot in range(SLOTS) if after.slot_holders(slot)[0] == FIVE[4]]
    assert moved
    for slot in moved:
        assert after.slot_holders(slot)[1] == before.slot_holders(slot)[0]


def test_consecutive_views_share_a_holder() -> None:
    before, after = Homes(FIVE), Homes([*FIVE[1:]])
    for slot in range(SLOTS):
        assert set(before.slot_holders(slot)) & set(after.slot_holders(slot))
