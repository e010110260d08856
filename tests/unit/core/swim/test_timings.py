from dataclasses import replace

import pytest

from meshlb.core.swim.timings import LAN, PROFILES


@pytest.mark.parametrize(
    "wrong",
    [
        {"ping_timeout_s": LAN.probe_interval_s / 2},
        {"ping_timeout_s": 0},
        {"suspicion_s": LAN.probe_interval_s},
        {"suspicion_stretch": 0.5},
        {"pause_s": LAN.suspicion_s},
        {"contact_first_s": LAN.contact_max_s + 1},
        {"push_pull_interval_s": 0},
    ],
)
def test_durations_that_do_not_fit_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(LAN, **wrong)


def test_every_profile_lets_a_healed_partition_merge_within_ten_seconds():
    assert all(timings.contact_max_s <= 10 for timings in PROFILES.values())


def test_up_to_ten_members_share_the_shortest_suspicion_and_more_need_longer():
    assert LAN.suspicion_for(1) == LAN.suspicion_for(10) == LAN.suspicion_s
    assert LAN.suspicion_for(100) == pytest.approx(2 * LAN.suspicion_s)


def test_whole_views_are_exchanged_less_often_where_they_are_large():
    assert LAN.push_pull_for(2) == LAN.push_pull_for(32) == LAN.push_pull_interval_s
    assert LAN.push_pull_for(128) == 4 * LAN.push_pull_interval_s
