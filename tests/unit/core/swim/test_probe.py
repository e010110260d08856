import itertools
from random import Random

import pytest

from meshlb.core.swim import LAN
from meshlb.core.swim.health import Health
from meshlb.core.swim.outbox import Outbox
from meshlb.core.swim.probe import HELPERS_MAX, Prober, Rotation
from meshlb.core.swim.view import View
from meshlb.model import NodeName
from meshlb.wire.messages import Ping, PingRequest
from tests.fakes.swim import DEAD, member, sent_to, told

B = NodeName("b")


class Bench:
    """A prober with all that it works on."""

    def __init__(self, *others):
        self.view = View(member("a"))
        self.outbox = Outbox(self.view, lambda _: 100)
        self.health = Health(lag_ill_s=1.0)
        self.prober = Prober(
            view=self.view,
            outbox=self.outbox,
            health=self.health,
            timings=LAN,
            rng=Random(1),
            sequence=itertools.count(1),
            now=0.0,
        )
        for name in others:
            self.view.apply(told(name), 0.0)
            self.prober.rotation.insert(NodeName(name))

    def advance(self):
        """Go to the next deadline; the failed member and the effects."""
        now = self.prober.next_deadline()
        return self.prober.advance(now), self.outbox.drain()


def turns(rotation, view, count):
    return [rotation.next(view).name for _ in range(count)]


@pytest.fixture
def nine():
    return Bench(*"bcdefghij")


def test_everybody_has_one_turn_a_round(nine):
    for _ in range(5):
        assert sorted(turns(nine.prober.rotation, nine.view, 9)) == list("bcdefghij")


def test_nobody_waits_longer_than_one_and_a_half_rounds(nine):
    order = turns(nine.prober.rotation, nine.view, 900)
    for name in "bcdefghij":
        places = [place for place, turn in enumerate(order) if turn == name]
        gaps = [later - earlier for earlier, later in itertools.pairwise(places)]
        assert max(gaps) <= 9 + 5
        assert len(set(gaps)) > 1


def test_a_suspect_is_next(nine):
    nine.prober.rotation.hasten(B)
    assert turns(nine.prober.rotation, nine.view, 1) == ["b"]


def test_the_dead_have_no_turn_and_newcomers_have_one():
    bench = Bench("b", "c")
    bench.view.apply(told("b", DEAD), 0.0)
    assert turns(bench.prober.rotation, bench.view, 3) == ["c", "c", "c"]
    bench.view.apply(told("d"), 0.0)
    bench.prober.rotation.insert(NodeName("d"))
    assert set(turns(bench.prober.rotation, bench.view, 4)) == {"c", "d"}


def test_a_name_that_joins_again_and_again_takes_one_place():
    view, rotation = View(member("a")), Rotation(Random(1))
    view.apply(told("b"), 0.0)
    view.apply(told("c"), 0.0)
    rotation.insert(NodeName("c"))
    for _ in range(100):
        rotation.insert(B)
    assert sorted(turns(rotation, view, 2)) == ["b", "c"]


def test_a_node_alone_has_nobody_to_probe():
    assert Bench().advance() == (None, [])


def test_a_node_does_not_probe_itself_even_when_its_own_stream_closed():
    bench = Bench()
    bench.prober.rotation.hasten(NodeName("a"))
    assert bench.advance() == (None, [])


def test_a_probe_pings_then_asks_three_others_and_the_stream_then_fails(nine):
    _, effects = nine.advance()
    target = effects[0].peer
    assert sent_to(effects, target) == [Ping(1, target)]
    nine.outbox.streams[target] = None

    failed, effects = nine.advance()
    assert failed is None
    requests = [m for e in effects for m in e.messages if isinstance(m, PingRequest)]
    assert {(r.seq, r.target) for r in requests} == {(1, target)}
    assert len({e.peer for e in effects} - {target}) == len(requests) == HELPERS_MAX
    assert sent_to(effects, target) == [Ping(1, target)]

    failed, effects = nine.advance()
    assert failed == target
    assert isinstance(effects[0].messages[0], Ping)
    assert effects[0].peer != target


def test_an_answer_ends_the_probe_until_the_next_interval():
    bench = Bench("b")
    began_at = bench.prober.next_deadline()
    bench.advance()
    assert bench.prober.acked(1, B)
    assert bench.prober.next_deadline() == began_at + LAN.probe_interval_s
    assert bench.advance()[0] is None


def test_an_answer_from_a_stranger_or_to_an_older_ping_ends_nothing():
    bench = Bench("b")
    bench.advance()
    assert not bench.prober.acked(1, NodeName("z"))
    assert not bench.prober.acked(99, B)
    bench.advance()
    assert bench.advance()[0] == "b"


def test_any_packet_of_the_target_spares_it():
    bench = Bench("b")
    bench.advance()
    bench.prober.heard_from(B)
    bench.advance()
    assert bench.advance()[0] is None


def test_helpers_that_say_no_keep_this_node_well_and_silent_ones_slow_it(nine):
    nine.advance()
    helpers = [e.peer for e in nine.advance()[1]]
    for helper in helpers:
        nine.prober.nacked(1, helper)
    nine.advance()
    assert nine.health.score == 0
    nine.advance()
    nine.advance()
    assert nine.health.score == HELPERS_MAX


def test_an_ill_node_gives_others_more_time(nine):
    nine.health.was_accused()
    began_at = nine.prober.next_deadline()
    nine.advance()
    assert nine.prober.next_deadline() == began_at + 2 * LAN.ping_timeout_s
    nine.advance()
    assert nine.prober.next_deadline() == began_at + 2 * LAN.probe_interval_s


def test_after_a_standstill_the_probe_under_way_proves_nothing():
    bench = Bench("b")
    bench.advance()
    bench.prober.start_over(50.0)
    assert bench.prober.next_deadline() == 50.0
    assert bench.advance()[0] is None


def test_lag_postpones_the_verdict():
    bench = Bench("b")
    bench.advance()
    due_at = bench.prober.next_deadline()
    bench.prober.postpone(0.5)
    assert bench.prober.next_deadline() == due_at + 0.5
