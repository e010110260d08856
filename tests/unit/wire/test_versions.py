from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.broadcast_words import Broadcast, BroadcastAck
from meshlb.wire.challenge import Challenge
from meshlb.wire.messages import Claim, MemberUpdate, Ping
from meshlb.wire.versions import (
    ALL_FEATURES,
    FIRST,
    NO_FEATURES,
    OURS,
    VERSION_MAX,
    Dialect,
    Feature,
    Versions,
    common_of,
)

LATER = Versions(VERSION_MAX, VERSION_MAX + 5, Feature(ALL_FEATURES | 1 << 40))


def update(**fields: int) -> MemberUpdate:
    name = NodeName("a")
    where = Address("10.0.0.1", 1)
    return MemberUpdate(name, where, BootId(1), 1, MemberState.ALIVE, True, name, **fields)


def test_a_dialect_has_the_messages_of_its_version_and_features_and_no_others() -> None:
    assert {Ping, Claim} <= Dialect(1).kinds
    assert Challenge not in Dialect(1).kinds
    assert Challenge in Dialect(2).kinds
    assert Broadcast not in Dialect(2).kinds
    assert {Broadcast, BroadcastAck} <= Dialect(2, Feature.BROADCAST).kinds


def test_version_1_has_no_features_whatever_is_said() -> None:
    assert OURS.dialect(1, ALL_FEATURES) == Dialect(1, NO_FEATURES)


def test_the_highest_common_version_is_spoken_with_the_features_of_both() -> None:
    assert OURS.common(OURS) == OURS.common(LATER) == Dialect(VERSION_MAX, ALL_FEATURES)
    assert OURS.common(FIRST) == FIRST.common(OURS) == Dialect(1)
    assert FIRST.common(LATER) is None


def test_a_report_says_what_its_subject_speaks_or_that_nobody_knows() -> None:
    assert Versions.told(update()) is None
    told = Versions.told(update(version_min=1, version_max=9, features=2**50))
    assert told == Versions(1, 9, Feature(2**50))


def test_whom_a_report_says_to_be_of_version_1_takes_no_challenge() -> None:
    assert OURS.takes(Challenge)
    assert not FIRST.takes(Challenge)
    assert FIRST.takes(Ping)


def test_all_members_speak_what_each_of_them_speaks() -> None:
    assert common_of([OURS, LATER, OURS]) == Dialect(VERSION_MAX, ALL_FEATURES)
    assert common_of([OURS, Versions(1, 2, NO_FEATURES)]) == Dialect(2)
    assert common_of([LATER, FIRST]) is None


def test_a_member_of_which_nothing_is_said_speaks_version_1() -> None:
    assert common_of([OURS, None]) == Dialect(1)
