import pytest

from meshlb.core.swim import (
    LAN,
    Contact,
    DatagramReceived,
    Lagged,
    MemberChanged,
    Refused,
    SendStream,
    StreamClosed,
    StreamReceived,
    ViewChanged,
)
from meshlb.core.swim.view import MEMBERS_MAX
from meshlb.model import Address, BootId, NodeName
from meshlb.wire.messages import Ack, MemberUpdate, Nack, Ping, PingRequest, PushPull, ViewMark
from meshlb.wire.refusal import Refusal
from tests.fakes.swim import (
    ALIVE,
    DEAD,
    LEFT,
    SUSPECT,
    address_of,
    membership,
    only,
    open_stream,
    sent_to,
    state_of,
    told,
)

ELSEWHERE = Address("10.9.9.9", 7946)
OTHER_BOOT = BootId(999)


def tell(machine, sender, *messages, now=0.0, **fields):
    """A datagram of `sender` with `messages`."""
    source = fields.pop("source", address_of(sender))
    event = DatagramReceived(NodeName(sender), source, messages, **fields)
    return machine.receive(event, now)


def knowing(*names, now=0.0, **fields):
    """A machine `a` that has heard of each member from itself."""
    machine = membership(now=now, **fields)
    for name in names:
        tell(machine, name, told(name), now=now)
    return machine


def run(machine, until):
    """Fire timers on time up to then; all effects."""
    effects = []
    while (now := machine.next_deadline()) is not None and now <= until:
        effects += machine.handle_timer(now)
    return effects


def reasons(effects):
    return [(change.member.name, change.reason) for change in only(MemberChanged, effects)]


class TestJoining:
    def test_seeds_are_contacted_at_once_and_for_ever(self):
        machine = membership(seeds=[address_of("b"), address_of("a")])
        assert only(Contact, machine.handle_timer(0.0)) == [Contact(address_of("b"))]
        assert len(only(Contact, run(machine, 600.0))) > 60

    def test_seeds_may_change_at_any_time(self):
        machine = membership()
        machine.set_seeds([address_of("c")], 5.0)
        assert Contact(address_of("c")) in run(machine, 5.0)

    def test_a_stream_begins_with_the_whole_view(self):
        machine = knowing("b")
        effects = open_stream(machine, "c")
        assert effects == [
            SendStream(NodeName("c"), (PushPull((machine.me.update(), told("b")), False),))
        ]

    def test_who_hears_of_a_newcomer_first_tells_all_streams_at_once(self):
        machine = knowing("b", "c")
        open_stream(machine, "b")
        open_stream(machine, "c")
        effects = machine.receive(
            StreamReceived(NodeName("d"), (PushPull((told("d"),), False),)), 1.0
        )
        assert reasons(effects) == [("d", "joined")]
        assert sent_to(effects, "b") == sent_to(effects, "c") == [told("d")]

    def test_hearsay_of_a_newcomer_is_not_told_to_all_streams_again(self):
        machine = knowing("b", "c")
        open_stream(machine, "c")
        effects = tell(machine, "b", told("d"))
        assert reasons(effects) == [("d", "joined")]
        assert only(SendStream, effects) == []

    def test_a_push_pull_that_wants_a_reply_gets_one(self):
        machine = knowing("b")
        effects = machine.receive(StreamReceived(NodeName("b"), (PushPull((), True),)), 1.0)
        assert sent_to(effects, "b") == [PushPull((machine.me.update(), told("b")), False)]

    def test_views_are_exchanged_from_time_to_time(self):
        machine = knowing("b")
        open_stream(machine, "b")
        sent = sent_to(run(machine, 2 * LAN.push_pull_interval_s), "b")
        assert any(isinstance(message, PushPull) and message.wants_reply for message in sent)

    def test_a_full_view_refuses_a_newcomer(self):
        machine = membership()
        for i in range(MEMBERS_MAX - 1):
            name = NodeName(f"x{i}")
            tell(machine, name, told("x", name=name), source=ELSEWHERE)
        assert tell(machine, "b", told("b")) == [Refused(NodeName("b"), Refusal.CLUSTER_FULL)]
        newcomer = {"name": NodeName("b"), "boot_id": BootId(1), "address": address_of("b")}
        assert machine.refusal(**newcomer) is Refusal.CLUSTER_FULL
        assert len(machine.members()) == MEMBERS_MAX


class TestPings:
    def test_a_ping_is_answered_the_way_it_came(self):
        machine = knowing("b")
        assert sent_to(tell(machine, "b", Ping(5, NodeName("a"))), "b")[0] == Ack(5)
        on_stream = machine.receive(StreamReceived(NodeName("b"), (Ping(6, NodeName("a")),)), 1.0)
        assert on_stream == [SendStream(NodeName("b"), (Ack(6),))]

    def test_a_ping_for_somebody_else_is_not_answered(self):
        assert tell(knowing("b"), "b", Ping(5, NodeName("z"))) == []

    def test_a_stranger_gets_an_answer_and_learns_who_we_are(self):
        machine = membership()
        effects = tell(machine, "z", Ping(5, NodeName("a")), source=ELSEWHERE)
        assert sent_to(effects, "z") == [Ack(5), machine.me.update()]
        assert len(machine.members()) == 1

    def test_answers_and_requests_of_strangers_change_nothing(self):
        machine = membership()
        request = PingRequest(1, NodeName("b"), address_of("b"))
        assert tell(machine, "z", Ack(1), Nack(1), request) == []

    def test_a_member_gets_a_ping_made_for_it(self):
        machine = knowing("b", "c")
        effects = tell(machine, "b", PingRequest(7, NodeName("c"), address_of("c")))
        (ping,) = [m for m in sent_to(effects, "c") if isinstance(m, Ping)]
        assert Ack(7) in sent_to(tell(machine, "c", Ack(ping.seq)), "b")


class TestDeath:
    def test_a_silent_member_is_suspected_then_dead_and_contacted_for_ever(self):
        machine = knowing("b")
        effects = run(machine, 10.0)
        assert reasons(effects) == [("b", "suspected"), ("b", "died")]
        assert len(only(Contact, run(machine, 600.0))) > 60

    def test_all_streams_hear_of_a_suspicion_and_of_a_death_at_once(self):
        machine = knowing("b", "c")
        open_stream(machine, "c")
        tell(machine, "c", told("b", SUSPECT, reporter=NodeName("c")))
        effects = run(machine, 30.0)
        heard = [
            m.state for m in sent_to(only(SendStream, effects), "c") if isinstance(m, MemberUpdate)
        ]
        assert heard[:2] == [SUSPECT, DEAD]

    def test_a_verdict_on_a_silent_suspect_is_believed(self):
        machine = knowing("b", "c")
        tell(machine, "c", told("b", SUSPECT, reporter=NodeName("c")))
        effects = tell(machine, "c", told("b", DEAD, reporter=NodeName("c")), now=0.1)
        assert reasons(effects) == [("b", "died")]

    def test_a_verdict_on_a_member_in_good_standing_is_only_an_accusation(self):
        machine = knowing("b", "c")
        effects = tell(machine, "c", told("b", DEAD, reporter=NodeName("c")))
        assert reasons(effects) == [("b", "suspected")]

    def test_a_verdict_on_a_suspect_that_spoke_since_is_only_an_accusation(self):
        machine = knowing("b", "c")
        tell(machine, "c", told("b", SUSPECT, reporter=NodeName("c")))
        tell(machine, "b")
        tell(machine, "c", told("b", DEAD, reporter=NodeName("c")))
        assert state_of(machine, "b") is SUSPECT

    def test_a_suspect_that_speaks_is_told_that_it_is_suspected(self):
        machine = knowing("b", "c")
        tell(machine, "c", told("b", SUSPECT, reporter=NodeName("c")))
        effects = tell(machine, "b", Ping(1, NodeName("a")))
        assert told("b", SUSPECT, reporter=NodeName("c")) in sent_to(effects, "b")

    def test_a_dead_member_that_speaks_is_told_and_returns_by_refuting(self):
        machine = knowing("b")
        run(machine, 10.0)
        verdict = told("b", DEAD, reporter=NodeName("a"))
        assert verdict in sent_to(tell(machine, "b", now=11.0), "b")
        effects = tell(machine, "b", told("b", ALIVE, 2), now=11.0)
        assert reasons(effects) == [("b", "returned")]
        assert state_of(machine, "b") is ALIVE

    def test_a_member_that_speaks_on_its_stream_is_not_suspected_for_lost_pings(self):
        machine = knowing("b")
        for tenth in range(100):
            run(machine, tenth / 10)
            machine.receive(StreamReceived(NodeName("b"), ()), tenth / 10)
        assert state_of(machine, "b") is ALIVE

    def test_a_closed_stream_makes_us_look_at_once(self):
        machine = knowing("b", "c", "d")
        open_stream(machine, "d")
        machine.receive(StreamClosed(NodeName("d")), 0.0)
        assert sent_to(machine.handle_timer(machine.next_deadline()), "d")[0].target == "d"

    def test_an_operator_may_let_a_dead_member_count_as_gone(self):
        machine = knowing("b")
        run(machine, 10.0)
        assert not machine.ownership.quorate
        assert reasons(machine.forget(NodeName("b"), 11.0)) == [("b", "left")]
        assert machine.ownership.quorate

    def test_a_live_member_cannot_be_forgotten(self):
        machine = knowing("b")
        assert machine.forget(NodeName("b"), 1.0) == []
        assert state_of(machine, "b") is ALIVE


class TestRefuting:
    @pytest.mark.parametrize("state", [SUSPECT, DEAD, LEFT])
    def test_an_accused_node_raises_its_incarnation_and_tells_accuser_teller_and_streams(
        self, state
    ):
        machine = knowing("b", "c", "d")
        open_stream(machine, "d")
        effects = tell(machine, "b", told("a", state, 1, reporter=NodeName("c")))
        refutation = told("a", ALIVE, 2)
        for peer in "bcd":
            assert refutation in sent_to(effects, peer)
        assert machine.me.update() == refutation

    def test_an_old_accusation_is_answered_without_raising_again(self):
        machine = knowing("b", incarnation=5)
        effects = tell(machine, "b", told("a", SUSPECT, 4, reporter=NodeName("b")))
        assert told("a", ALIVE, 5) in sent_to(effects, "b")
        assert machine.me.incarnation == 5

    def test_an_earlier_life_with_a_faster_clock_is_outdone(self):
        machine = knowing("b", incarnation=5)
        tell(machine, "b", told("a", ALIVE, 900, boot_id=OTHER_BOOT))
        assert machine.me.incarnation == 901
        assert machine.health_score == 0

    def test_an_echo_of_ourselves_is_not_answered(self):
        machine = knowing("b")
        assert tell(machine, "b", machine.me.update()) == []

    def test_being_synced_is_told_under_a_new_incarnation(self):
        machine = knowing("b")
        open_stream(machine, "b")
        effects = machine.set_synced(1.0)
        assert sent_to(effects, "b") == [told("a", ALIVE, 2, synced=True)]
        assert only(ViewChanged, effects)[0].owners == ("a",)
        assert machine.set_synced(2.0) == []


class TestNames:
    def test_a_namesake_of_a_live_member_is_refused_and_the_incumbent_kept(self):
        machine = knowing("b")
        namesake = told("b", ALIVE, 9, boot_id=OTHER_BOOT, address=ELSEWHERE)
        effects = tell(machine, "b", namesake, source=ELSEWHERE, boot_id=OTHER_BOOT)
        assert only(Refused, effects) == [Refused(NodeName("b"), Refusal.NAME_TAKEN)]
        assert told("b") in sent_to(effects, "b")
        assert machine.members()[1].address == address_of("b")

    def test_the_handshake_refuses_it_too_and_admits_others(self):
        machine = knowing("b")
        b = NodeName("b")
        refused = machine.refusal(name=b, boot_id=OTHER_BOOT, address=ELSEWHERE)
        assert refused is Refusal.NAME_TAKEN
        assert machine.refusal(name=b, boot_id=OTHER_BOOT, address=address_of("b")) is None
        assert machine.refusal(name=b, boot_id=told("b").boot_id, address=ELSEWHERE) is None
        run(machine, 10.0)
        assert machine.refusal(name=b, boot_id=OTHER_BOOT, address=ELSEWHERE) is None

    def test_nobody_else_may_have_our_own_name(self):
        machine = membership()
        me = machine.me
        own = machine.refusal(name=me.name, boot_id=me.boot_id, address=me.address)
        other = machine.refusal(name=me.name, boot_id=OTHER_BOOT, address=me.address)
        assert (own, other) == (Refusal.SELF, Refusal.NAME_TAKEN)
        refused = tell(machine, "a", Ping(1, me.name), source=ELSEWHERE, boot_id=OTHER_BOOT)
        assert refused == [Refused(me.name, Refusal.NAME_TAKEN)]

    def test_the_refused_node_learns_why_and_does_not_fight(self):
        machine = knowing("b")
        incumbent = told("a", ALIVE, 900, boot_id=OTHER_BOOT, address=ELSEWHERE)
        assert tell(machine, "b", incumbent) == [Refused(NodeName("b"), Refusal.NAME_TAKEN)]
        assert machine.me.incarnation == 1

    def test_a_packet_of_a_namesake_is_no_sign_of_life_of_the_incumbent(self):
        machine = knowing("b")
        for tenth in range(100):
            run(machine, tenth / 10)
            tell(machine, "b", source=ELSEWHERE, boot_id=OTHER_BOOT, now=tenth / 10)
        assert state_of(machine, "b") is DEAD

    def test_a_restart_at_the_same_address_is_reported_as_one(self):
        machine = knowing("b")
        effects = tell(machine, "b", told("b", ALIVE, 9, boot_id=OTHER_BOOT), boot_id=OTHER_BOOT)
        assert reasons(effects) == [("b", "restarted")]

    def test_once_the_old_one_is_dead_the_name_is_free_elsewhere(self):
        machine = knowing("b")
        run(machine, 10.0)
        newcomer = told("b", ALIVE, 9, boot_id=OTHER_BOOT, address=ELSEWHERE)
        assert reasons(tell(machine, "b", newcomer, now=11.0)) == [("b", "restarted")]

    def test_a_restart_whose_clock_went_back_is_told_what_to_outdo(self):
        machine = knowing("b")
        tell(machine, "b", told("b", ALIVE, 900))
        reborn = told("b", ALIVE, 5, boot_id=OTHER_BOOT)
        effects = tell(machine, "b", reborn, boot_id=OTHER_BOOT)
        assert told("b", ALIVE, 900) in sent_to(effects, "b")


class TestLeaving:
    def test_all_are_told_at_once_by_stream_or_datagram(self):
        machine = knowing("b", "c")
        open_stream(machine, "b")
        effects = machine.leave(5.0)
        goodbye = told("a", LEFT)
        assert goodbye in sent_to(effects, "b")
        assert goodbye in sent_to(effects, "c")

    def test_who_left_does_nothing_more(self):
        machine = knowing("b")
        machine.leave(5.0)
        assert machine.next_deadline() is None
        assert machine.handle_timer(6.0) == []
        assert tell(machine, "b", told("a", LEFT), Ping(1, NodeName("a"))) == []
        assert machine.leave(7.0) == []

    def test_a_member_that_left_is_not_suspected_contacted_or_counted(self):
        machine = knowing("b")
        assert reasons(tell(machine, "b", told("b", LEFT))) == [("b", "left")]
        assert only(MemberChanged | Contact, run(machine, 60.0)) == []
        assert machine.ownership.quorate


class TestLag:
    def test_a_standstill_of_our_own_voids_suspicions_and_kills_nobody(self):
        machine = knowing("b", "c")
        tell(machine, "c", told("b", SUSPECT, reporter=NodeName("c")))
        effects = machine.handle_timer(60.0)
        assert only(MemberChanged, effects) == []
        assert state_of(machine, "b") is SUSPECT
        assert sent_to(effects, "b")[0] == Ping(1, NodeName("b"))

    def test_a_member_that_was_dead_all_the_time_is_still_found_out(self):
        machine = knowing("b", "c")
        tell(machine, "c", told("b", SUSPECT, reporter=NodeName("c")))
        machine.handle_timer(60.0)
        assert ("b", "died") in reasons(run(machine, 80.0))

    def test_a_lag_before_the_verdict_postpones_it(self):
        effects = {}
        for lag_s in (0.0, 0.5):
            machine = knowing("b")
            tell(machine, "b", told("b", SUSPECT, reporter=NodeName("z")))
            machine.receive(Lagged(lag_s), 0.5)
            effects[lag_s] = reasons(run(machine, LAN.suspicion_s + 0.1))
        assert ("b", "died") in effects[0.0]
        assert ("b", "died") not in effects[0.5]


def test_messages_of_other_machines_are_only_signs_of_life():
    machine = knowing("b")
    assert machine.receive(StreamReceived(NodeName("b"), (ViewMark(1),)), 1.0) == []


def test_the_view_is_what_members_shows():
    machine = knowing("b")
    assert [known.update() for known in machine.members()] == [told("a"), told("b")]
    assert machine.me == machine.members()[0]
