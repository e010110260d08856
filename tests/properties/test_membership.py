"""Laws of membership, over reports in any order and events of any kind."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlb.core.swim import DatagramReceived, Lagged, StreamClosed, StreamOpened, StreamReceived
from meshlb.core.swim.member import merge
from meshlb.model import BootId, MemberState, NodeName
from meshlb.wire.messages import Ack, Nack, Ping, PingRequest, PushPull
from tests.fakes.swim import ALIVE, address_of, membership, told

NAMES = st.sampled_from("abcd").map(NodeName)
REPORTS_OF_B = st.builds(
    lambda state, incarnation, boot: told("b", state, incarnation, boot_id=BootId(boot)),
    st.sampled_from(MemberState),
    st.integers(1, 3),
    st.integers(1, 2),
)


def merged(reports):
    known = None
    for report in reports:
        known, _ = merge(known, report, 0.0)
    return known


@given(st.lists(REPORTS_OF_B, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_order_and_any_duplication_of_reports_give_the_same_member(reports, rng):
    shuffled = reports + rng.choices(reports, k=3)
    rng.shuffle(shuffled)
    assert merged(shuffled) == merged(reports)


@given(st.lists(REPORTS_OF_B, max_size=6), st.lists(REPORTS_OF_B, min_size=1, max_size=6))
def test_views_merge_the_same_whichever_is_merged_first(one, other):
    parts = [known.update() for known in (merged(one), merged(other)) if known]
    assert merged(parts) == merged(one + other) == merged(reversed(parts))


@given(st.lists(REPORTS_OF_B, min_size=2, max_size=10))
def test_within_one_life_the_state_only_advances_and_lives_only_get_newer(reports):
    known, _ = merge(None, reports[0], 0.0)
    for report in reports[1:]:
        after, _ = merge(known, report, 0.0)
        life, life_after = (known.incarnation, known.boot_id), (after.incarnation, after.boot_id)
        assert life_after >= life
        if life_after == life:
            assert after.state >= known.state
        known = after


UPDATES = st.builds(
    lambda name, state, incarnation, boot, place, reporter: told(
        name, state, incarnation, boot_id=BootId(boot), address=address_of(place), reporter=reporter
    ),
    NAMES,
    st.sampled_from(MemberState),
    st.integers(1, 6),
    st.integers(97, 101),
    NAMES,
    NAMES,
)
MESSAGES = st.one_of(
    UPDATES,
    st.builds(Ping, st.integers(0, 9), NAMES),
    st.builds(PingRequest, st.integers(0, 9), NAMES, NAMES.map(address_of)),
    st.builds(Ack, st.integers(0, 9)),
    st.builds(Nack, st.integers(0, 9)),
    st.builds(PushPull, st.lists(UPDATES, max_size=4).map(tuple), st.booleans()),
)
PACKETS = st.lists(MESSAGES, max_size=4).map(tuple)
EVENTS = st.one_of(
    st.builds(
        DatagramReceived,
        NAMES,
        NAMES.map(address_of),
        PACKETS,
        st.one_of(st.none(), st.integers(97, 101).map(BootId)),
    ),
    st.builds(StreamReceived, NAMES, PACKETS),
    st.builds(StreamOpened, NAMES),
    st.builds(StreamClosed, NAMES),
    st.builds(Lagged, st.floats(0, 5)),
)
STEPS = st.lists(st.tuples(st.floats(0, 3), st.one_of(st.none(), EVENTS)), max_size=40)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(0, 9))
def test_whatever_arrives_a_node_holds_itself_alive_and_only_raises_its_own_incarnation(
    steps, seed
):
    machine = membership("a", rng=Random(seed), incarnation=3)
    now = 0.0
    for wait_s, event in steps:
        now += wait_s
        me, others = machine.me, {m.name: m for m in machine.members()[1:]}
        deadline = machine.next_deadline()
        if event is not None:
            machine.receive(event, now)
        elif deadline is not None and deadline <= now:
            machine.handle_timer(now)
            after = {m.name: m for m in machine.members()[1:]}
            assert {name: (m.incarnation, m.boot_id) for name, m in after.items()} == {
                name: (m.incarnation, m.boot_id) for name, m in others.items()
            }
        assert machine.me.incarnation >= me.incarnation
        assert (machine.me.state, machine.me.boot_id) == (ALIVE, me.boot_id)
        for member in machine.members()[1:]:
            before = others.get(member.name)
            if before and (before.incarnation, before.boot_id) == (
                member.incarnation,
                member.boot_id,
            ):
                assert member.state >= before.state
