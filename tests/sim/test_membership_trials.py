"""Membership as a whole, in virtual time. A failure names the seed; replay it with

python -m tests.sim.membership --nodes N --trials T --seed S
"""

import hashlib

import pytest

from meshlb.core.swim import LAN, LOCAL, WAN
from meshlb.model import MemberState
from tests.sim.cluster import Cluster, name_of
from tests.sim.membership import crash_trials, percentile, quiet_run
from tests.sim.network import Weather

ALIVE, SUSPECT, DEAD, LEFT = MemberState

CALM = Weather()
ROUGH = Weather(loss=0.2, duplication=0.05, delay_max_s=0.02)


def trace_of(seed):
    """A digest of every event of a run with losses, a crash and a restart."""
    digest = hashlib.blake2b()
    cluster = Cluster(seed, ROUGH)
    cluster.sim.observe = lambda now, name, event: digest.update(repr((now, name, event)).encode())
    cluster.start_all(5)
    cluster.crash(name_of(3), hang=True)
    cluster.sim.run(cluster.sim.now + 8.0)
    cluster.start(3)
    cluster.sim.run(cluster.sim.now + 2.0)
    return digest.hexdigest()


def test_the_same_seed_gives_the_same_trace():
    assert trace_of(7) == trace_of(7)
    assert trace_of(7) != trace_of(8)


@pytest.mark.parametrize(("nodes", "trials", "known_s"), [(3, 30, 4), (8, 30, 4), (32, 5, 6)])
def test_a_crash_is_known_to_all_in_time_and_a_restart_at_once(nodes, trials, known_s):
    figures = crash_trials(
        nodes=nodes, trials=trials, seed=nodes, weather=CALM, hang=True, timings=LAN
    )
    assert max(figures.detected_s) <= known_s
    assert max(figures.joined_s) <= 0.1
    assert figures.false_deaths == 0


@pytest.mark.parametrize("timings", [WAN, LOCAL], ids=["wan", "local"])
def test_every_profile_notices_crashes(timings):
    figures = crash_trials(nodes=5, trials=10, seed=1, weather=CALM, hang=True, timings=timings)
    assert max(figures.detected_s) <= 4 * timings.probe_interval_s + 2 * timings.suspicion_s
    assert figures.false_deaths == 0


def test_closed_streams_make_it_faster():
    hung, killed = (
        crash_trials(nodes=8, trials=30, seed=2, weather=CALM, hang=hang, timings=LAN)
        for hang in (True, False)
    )
    assert percentile(killed.detected_s, 0.99) < percentile(hung.detected_s, 0.99)
    assert max(killed.detected_s) <= 3.5


def test_nobody_is_wronged_in_rough_weather():
    figures = quiet_run(nodes=8, duration_s=200.0, seed=3, weather=ROUGH, timings=LAN)
    assert figures.suspicions > 0
    assert figures.false_deaths == 0


def test_crashes_in_rough_weather_are_found_and_wrong_nobody():
    figures = crash_trials(nodes=8, trials=10, seed=4, weather=ROUGH, hang=True, timings=LAN)
    assert max(figures.detected_s) <= 8.0
    assert figures.false_deaths == 0


def test_an_idle_node_sends_little():
    figures = quiet_run(nodes=32, duration_s=30.0, seed=5, weather=CALM, timings=LAN)
    assert figures.suspicions == 0
    assert figures.sent_bytes_per_s <= 1_000


def test_a_leave_is_known_within_a_round_trip_and_never_taken_for_a_death():
    cluster = Cluster(6)
    cluster.start_all(8)
    cluster.leave(name_of(2))
    assert cluster.sim.run(cluster.sim.now + 0.01, cluster.all_hold(name_of(2), LEFT))
    cluster.sim.run(cluster.sim.now + 20.0)
    assert cluster.all_hold(name_of(2), LEFT)()
    assert cluster.record.false_deaths == []


@pytest.mark.parametrize("seed", range(5))
def test_halves_of_a_partition_bury_each_other_and_merge_within_ten_seconds(seed):
    cluster = Cluster(seed)
    cluster.start_all(7)
    names = [name_of(index) for index in range(7)]
    sides = names[:4], names[4:]
    cluster.part(*sides)
    cluster.sim.run(cluster.sim.now + 30.0)
    for side in sides:
        for name in side:
            held = {m.name: m.state for m in cluster.members[name].members()}
            assert held == {n: ALIVE if n in side else DEAD for n in names}
            assert cluster.members[name].ownership.quorate is (len(side) == 4)
    cluster.heal()
    healed = cluster.sim.run(cluster.sim.now + 10.0, cluster.knows_all(7))
    assert healed
    views = {cluster.members[name].ownership for name in names}
    assert len(views) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_stood_still_blames_nobody_and_is_taken_back(seed):
    cluster = Cluster(seed)
    cluster.start_all(5)
    paused = name_of(seed)
    cluster.sim.pause(paused)
    assert cluster.sim.run(cluster.sim.now + 10.0, cluster.all_hold(paused, DEAD))
    cluster.record.changes.clear()
    cluster.sim.resume(paused)
    assert cluster.sim.run(cluster.sim.now + 2.0, cluster.knows_all(5))
    blamed = [
        change.member.name
        for _, name, change in cluster.record.changes
        if name == paused and change.member.state is DEAD
    ]
    assert blamed == []


@pytest.mark.parametrize("seed", range(5))
def test_a_short_standstill_costs_nobody_its_place(seed):
    cluster = Cluster(seed)
    cluster.start_all(5)
    cluster.sim.pause(name_of(1))
    cluster.sim.run(cluster.sim.now + 1.5)
    cluster.sim.resume(name_of(1))
    cluster.sim.run(cluster.sim.now + 10.0)
    assert cluster.record.false_deaths == []
    assert cluster.knows_all(5)()


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_hears_nothing_cannot_bury_the_others_and_is_given_up_itself(seed):
    cluster = Cluster(seed)
    cluster.start_all(6)
    deaf = name_of(seed)
    cluster.deafen(deaf)
    assert cluster.sim.run(cluster.sim.now + 60.0, cluster.all_hold(deaf, DEAD))
    cluster.sim.run(cluster.sim.now + 60.0)
    assert cluster.record.false_deaths == []


@pytest.mark.parametrize("nodes", [3, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_is_cut_off_alone_knows_it_as_soon_as_a_crash_is_known(nodes, seed):
    cluster = Cluster(seed)
    cluster.start_all(nodes)
    cluster.sim.run(cluster.sim.now + 3.0)
    alone, *others = sorted(map(name_of, range(nodes)), key=lambda name: name != name_of(seed % 3))
    cluster.part([alone], others)
    node = cluster.members[alone]
    assert cluster.sim.run(cluster.sim.now + 4.0, lambda: not node.ownership.quorate)
    assert all(member.is_live for member in node.members())
    cluster.heal()
    assert cluster.sim.run(cluster.sim.now + 10.0, lambda: node.ownership.quorate)


@pytest.mark.parametrize("nodes", [2, 8])
def test_nobody_takes_itself_for_cut_off_in_rough_weather(nodes):
    cluster = Cluster(nodes, ROUGH)
    cluster.start_all(nodes)
    was_quorate = cluster.sim.run(
        cluster.sim.now + 100.0,
        lambda: not all(member.ownership.quorate for member in cluster.members.values()),
    )
    assert not was_quorate


def test_two_of_three_crash_at_once_and_the_third_knows():
    cluster = Cluster(9)
    cluster.start_all(3)
    cluster.crash(name_of(0), hang=True)
    cluster.crash(name_of(1), hang=True)
    assert cluster.sim.run(cluster.sim.now + 8.0, cluster.all_hold(name_of(1), DEAD))
    assert cluster.sim.run(cluster.sim.now + 2.0, cluster.all_hold(name_of(0), DEAD))
    assert not cluster.members[name_of(2)].ownership.quorate


def test_all_agree_on_the_owners_once_all_are_synced():
    cluster = Cluster(10)
    cluster.start_all(5)
    for name in cluster.sim.running():
        cluster.sim.act(name, cluster.members[name].set_synced(cluster.sim.now))
    cluster.sim.run(cluster.sim.now + 0.1)
    (view,) = {cluster.members[name].ownership for name in cluster.sim.running()}
    assert list(view.owners) == [name_of(index) for index in range(5)]
    assert {told.view_id for told in cluster.record.views.values()} == {view.view_id}
