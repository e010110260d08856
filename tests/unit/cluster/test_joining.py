from dataclasses import replace

from meshlb.cluster.joining import (
    DISCOVERY_S_MAX,
    IN_SYNC,
    LINKS_S_MAX,
    Situation,
    gap_filler,
    judge,
)
from meshlb.core.swim.member import Member
from meshlb.model import Address, BootId, MemberState, NodeName

ALONE = Situation(
    age_s=0.0,
    untried=0,
    refused="",
    others=(),
    linked=(),
    pulled=(),
    has_pulled_synced=False,
    gaps=(),
)


def member(name: str, *, synced: bool = True, state: MemberState = MemberState.ALIVE) -> Member:
    return Member(
        name=NodeName(name),
        address=Address("127.0.0.1", 1),
        boot_id=BootId(1),
        incarnation=1,
        state=state,
        synced=synced,
        reporter=NodeName(name),
        since=0.0,
    )


A, B = member("a"), member("b")
COLD_A, COLD_B = member("a", synced=False), member("b", synced=False)


def test_a_first_node_without_seeds_is_in_sync_at_once() -> None:
    assert judge(ALONE) == IN_SYNC


def test_seeds_are_waited_for_but_not_for_ever() -> None:
    waiting = replace(ALONE, untried=1)
    assert judge(waiting).reason == "looking for members"
    assert judge(replace(waiting, age_s=DISCOVERY_S_MAX)) == IN_SYNC


def test_a_refused_node_that_knows_nobody_else_is_never_in_sync() -> None:
    refused = replace(ALONE, refused="refused by 1.2.3.4:5: other-secret", age_s=1e6)
    assert judge(refused).reason == refused.refused
    let_in = replace(refused, others=(A,), linked={"a"}, has_pulled_synced=True)
    assert judge(let_in) == IN_SYNC


def test_a_linked_stranger_is_heard_before_anything_is_decided() -> None:
    assert judge(replace(ALONE, linked={"a"})).reason == "waiting to hear from a"


def test_every_live_member_is_linked_first_but_not_for_ever() -> None:
    waiting = replace(ALONE, others=(A, B), linked={"a"}, has_pulled_synced=True)
    assert judge(waiting).reason == "waiting for a stream to b"
    assert judge(replace(waiting, age_s=LINKS_S_MAX)) == IN_SYNC


def test_a_suspect_or_dead_member_is_not_waited_for() -> None:
    suspect, dead = member("b", state=MemberState.SUSPECT), member("c", state=MemberState.DEAD)
    others = replace(ALONE, others=(A, suspect, dead), linked={"a"}, has_pulled_synced=True)
    assert judge(others) == IN_SYNC


def test_one_table_in_sync_is_enough() -> None:
    linked = replace(ALONE, others=(COLD_A, B), linked={"a", "b"})
    assert judge(linked).pull_from == B
    assert judge(replace(linked, pulled={"a"})).pull_from == B
    assert judge(replace(linked, has_pulled_synced=True)) == IN_SYNC


def test_a_gap_has_to_be_filled() -> None:
    gapped = replace(ALONE, others=(A,), linked={"a"}, has_pulled_synced=True, gaps={"a"})
    assert judge(gapped).pull_from == A


def test_where_nobody_is_in_sync_every_table_is_pulled() -> None:
    cold = replace(ALONE, others=(COLD_A, COLD_B), linked={"a", "b"})
    assert judge(cold).pull_from == COLD_A
    assert judge(replace(cold, pulled={"a"})).pull_from == COLD_B
    assert judge(replace(cold, pulled={"a", "b"})) == IN_SYNC


def test_a_gap_is_filled_by_the_peer_itself_or_by_one_in_sync() -> None:
    assert gap_filler(set(), [A, B]) is None
    assert gap_filler({NodeName("b")}, [A, B]) == B
    assert gap_filler({NodeName("c")}, [COLD_B, A]) == A
    assert gap_filler({NodeName("c")}, [COLD_B]) is None
