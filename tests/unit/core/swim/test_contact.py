import itertools
import math
from random import Random

from meshlb.core.swim import LAN
from meshlb.core.swim.contact import Contacts
from meshlb.core.swim.view import View
from meshlb.model import NodeName
from tests.fakes.swim import DEAD, LEFT, address_of, member, told

B, C = address_of("b"), address_of("c")


def contacts(*seeds):
    return Contacts(seeds, LAN, Random(1))


def view_of(*updates):
    view = View(member("a"))
    for update in updates:
        view.apply(update, 0.0)
    return view


def attempts(machine, until):
    """When each address is dialled up to that time."""
    found = []
    while (now := machine.next_deadline()) <= until:
        found += [(now, address) for address in machine.take_due(now)]
    return found


def test_a_seed_is_due_at_once_and_a_dead_member_too():
    machine = contacts(B)
    machine.follow(view_of(told("c", DEAD)), [], 5.0)
    assert machine.take_due(5.0) == [B, C]


def test_attempts_never_end_and_slow_down_to_the_longest_wait():
    machine = contacts(B)
    machine.follow(view_of(), [], 0.0)
    times = [when for when, _ in attempts(machine, 600.0)]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits[0] <= LAN.contact_first_s
    assert max(waits) <= LAN.contact_max_s
    assert all(wait >= LAN.contact_max_s / 2 for wait in waits[8:])
    assert times[-1] > 590


def test_a_seed_that_a_stream_reaches_is_left_alone_until_the_stream_closes():
    machine, view = contacts(B), view_of(told("b"))
    machine.follow(view, [NodeName("b")], 0.0)
    assert machine.next_deadline() == math.inf
    machine.follow(view, [], 7.0)
    assert machine.take_due(7.0) == [B]


def test_following_again_does_not_start_the_backoff_anew():
    machine, view = contacts(B), view_of()
    machine.follow(view, [], 0.0)
    machine.take_due(0.0)
    due_at = machine.next_deadline()
    machine.follow(view, [], 0.1)
    assert machine.next_deadline() == due_at


def test_this_node_itself_and_members_that_left_are_not_contacted():
    machine = contacts(address_of("a"))
    machine.follow(view_of(told("c", LEFT)), [], 0.0)
    assert machine.next_deadline() == math.inf
