from meshlb.core.swim.member import Outcome
from meshlb.core.swim.view import MEMBERS_LIVE_MAX, MEMBERS_MAX, View
from meshlb.model import Address, BootId, NodeName
from tests.fakes.swim import ALIVE, DEAD, LEFT, SUSPECT, address_of, member, told


def view_of(*updates):
    view = View(member("a", synced=True))
    for update in updates:
        view.apply(update, 0.0)
    return view


def crowd(count, state=ALIVE):
    return [told("x", state, name=NodeName(f"x{i:03}")) for i in range(count)]


def test_owners_are_the_live_and_synced_members_in_order():
    view = view_of(
        told("d", SUSPECT, synced=True),
        told("c", ALIVE, synced=False),
        told("b", ALIVE, synced=True),
        told("e", DEAD, synced=True),
    )
    assert view.ownership().owners == ("a", "b", "d")


def test_suspicion_does_not_change_the_view_id_but_death_does():
    view = view_of(told("b", synced=True))
    alive = view.ownership().view_id
    view.apply(told("b", SUSPECT, synced=True), 1.0)
    assert view.ownership().view_id == alive
    view.apply(told("b", DEAD, synced=True), 2.0)
    assert view.ownership().view_id != alive


def test_a_restart_changes_the_view_id():
    before = view_of(told("b", synced=True)).ownership()
    after = view_of(told("b", synced=True, boot_id=BootId(99))).ownership()
    assert before.owners == after.owners
    assert before.view_id != after.view_id


def test_the_view_id_does_not_depend_on_the_order_of_joining():
    b, c = told("b", synced=True), told("c", synced=True)
    assert view_of(b, c).ownership() == view_of(c, b).ownership()


def test_a_majority_of_all_that_did_not_leave_is_quorate():
    assert view_of(told("b", DEAD), told("c")).ownership().quorate
    assert not view_of(told("b", DEAD)).ownership().quorate
    assert not view_of(told("b", DEAD), told("c", DEAD), told("d")).ownership().quorate
    assert view_of(told("b", LEFT), told("c", LEFT)).ownership().quorate


def test_a_node_that_knows_nobody_is_no_majority_of_the_addresses_it_should_meet():
    view = view_of()
    view.expect([address_of("a"), address_of("b"), address_of("c")])
    assert not view.ownership().quorate
    view.apply(told("b"), 1.0)
    assert view.ownership().quorate


def test_an_address_counts_no_more_once_somebody_was_met_there():
    view, alias = view_of(), Address("10.9.9.9", 7946)
    view.expect([alias])
    assert not view.ownership().quorate
    view.meet(alias)
    assert view.ownership().quorate
    view.expect([alias])
    assert view.ownership().quorate


def test_who_was_met_and_left_is_not_missed():
    view = view_of(told("b"))
    view.expect([address_of("b")])
    view.apply(told("b", LEFT), 1.0)
    view.forget_left(since_before=2.0)
    assert view.ownership().quorate


def test_addresses_that_are_no_longer_to_join_by_are_not_missed():
    view = view_of()
    view.expect([address_of("b"), address_of("c")])
    view.expect([])
    assert view.ownership().quorate


def test_a_full_view_of_live_members_takes_no_newcomer():
    view = view_of(*crowd(MEMBERS_MAX - 1))
    assert not view.has_room()
    change = view.apply(told("b"), 1.0)
    assert (change.outcome, change.after) == (Outcome.JOINED, None)
    assert len(view.all()) == MEMBERS_MAX


def test_nobody_new_is_let_in_beyond_so_many_live_members():
    view = view_of(*crowd(MEMBERS_LIVE_MAX - 2))
    assert view.has_room()
    view.apply(told("b", SUSPECT), 1.0)
    assert not view.has_room()
    view.apply(told("b", DEAD), 2.0)
    assert view.has_room()


def test_who_was_let_in_elsewhere_is_known_here_too_so_that_views_stay_alike():
    view = view_of(*crowd(MEMBERS_LIVE_MAX - 1))
    assert not view.has_room()
    assert view.apply(told("b"), 1.0).after == member("b", since=1.0)


def test_in_a_full_view_a_newcomer_takes_the_place_of_the_one_longest_gone():
    view = view_of(*crowd(MEMBERS_MAX - 3))
    view.apply(told("c", LEFT), 5.0)
    view.apply(told("d", LEFT), 4.0)
    assert view.apply(told("b"), 6.0).after == member("b", since=6.0)
    assert view.get(NodeName("c"))
    assert view.get(NodeName("d")) is None
    assert len(view.all()) == MEMBERS_MAX


def test_members_that_left_are_forgotten_in_time_and_dead_ones_are_not():
    view = view_of(told("b", LEFT), told("c", DEAD))
    view.forget_left(since_before=0.0)
    assert view.get(NodeName("b"))
    view.forget_left(since_before=0.1)
    assert view.get(NodeName("b")) is None
    assert view.get(NodeName("c"))


def test_a_view_is_whole_while_nobody_is_dead_and_everybody_expected_was_met():
    view = view_of(told("b"), told("c", LEFT), told("d", SUSPECT))
    assert view.is_whole
    view.expect([address_of("b"), address_of("e")])
    assert not view.is_whole
    view.meet(address_of("e"))
    assert view.is_whole
    view.apply(told("d", DEAD), 1.0)
    assert not view.is_whole


def test_whoever_knows_nobody_is_no_majority_while_a_name_to_join_by_does_not_resolve():
    view = view_of()
    view.expect([], has_unresolved=True)
    assert not view.ownership().quorate
    view.apply(told("b"), 1.0)
    assert view.ownership().quorate
    view.apply(told("b", DEAD), 2.0)
    assert not view.ownership().quorate, "one of two"
    alone = view_of()
    alone.expect([], has_unresolved=True)
    alone.expect([])
    assert alone.ownership().quorate
