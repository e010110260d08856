import math
from dataclasses import replace

import pytest

from meshlb.core.swim import LAN
from meshlb.core.swim.suspicion import CONFIRMATIONS_MAX, Suspicions
from meshlb.model import NodeName

TIMINGS = replace(LAN, suspicion_s=2.0, suspicion_stretch=3.0)
SHORT_S, LONG_S = 2.0, 6.0
A, B, C, D, E, F = map(NodeName, "abcdef")


def suspicions(members=6):
    return Suspicions(TIMINGS, lambda: members)


def test_an_accuser_alone_waits_the_long_time():
    pending = suspicions()
    pending.accuse(B, A, 10.0)
    assert pending.next_deadline() == 10.0 + LONG_S


def test_every_accuser_shortens_the_wait_down_to_the_short_time():
    pending = suspicions()
    deadlines = []
    for accuser in (A, C, D, E):
        assert pending.accuse(B, accuser, 0.0)
        deadlines.append(pending.next_deadline())
    assert deadlines == sorted(deadlines, reverse=True)
    assert len(set(deadlines)) == 4
    assert deadlines[-1] == pytest.approx(SHORT_S)


def test_the_same_accuser_counts_once():
    pending = suspicions()
    pending.accuse(B, A, 0.0)
    before = pending.next_deadline()
    assert not pending.accuse(B, A, 1.0)
    assert pending.next_deadline() == before


def test_more_accusers_than_count_are_not_told_on():
    pending = suspicions(members=100)
    for i in range(CONFIRMATIONS_MAX + 1):
        assert pending.accuse(B, NodeName(f"x{i}"), 0.0)
    assert not pending.accuse(B, A, 0.0)


def test_of_two_members_nobody_could_confirm_so_the_time_is_short():
    pending = suspicions(members=2)
    pending.accuse(B, A, 0.0)
    assert pending.next_deadline() == SHORT_S


def test_other_suspects_are_not_waited_for_as_accusers():
    pending = suspicions(members=3)
    pending.accuse(B, A, 0.0)
    pending.accuse(C, A, 0.0)
    assert pending.next_deadline() == SHORT_S


def test_a_silent_suspect_is_given_up_once():
    pending = suspicions(members=2)
    pending.accuse(B, A, 0.0)
    assert pending.take_expired(SHORT_S - 0.01) == ([], [])
    assert pending.take_expired(SHORT_S) == ([B], [])
    assert pending.take_expired(99.0) == ([], [])
    assert pending.next_deadline() == math.inf


def test_a_suspect_that_was_heard_from_gets_one_more_chance_and_only_one():
    pending = suspicions(members=2)
    pending.accuse(B, A, 0.0)
    pending.heard_from(B)
    assert not pending.is_silent(B)
    assert pending.take_expired(SHORT_S) == ([], [B])
    pending.heard_from(B)
    assert pending.take_expired(2 * SHORT_S) == ([B], [])


def test_lag_postpones_the_verdict():
    pending = suspicions(members=2)
    pending.accuse(B, A, 0.0)
    pending.postpone(0.5)
    assert pending.next_deadline() == SHORT_S + 0.5


def test_starting_over_forgets_accusers_and_time():
    pending = suspicions()
    for accuser in (C, D, E, F):
        pending.accuse(B, accuser, 0.0)
    assert pending.start_over(A, 50.0) == [B]
    assert pending.next_deadline() == 50.0 + LONG_S


def test_nobody_is_silent_who_is_not_suspected():
    pending = suspicions()
    assert not pending.is_silent(B)
    pending.accuse(B, A, 0.0)
    assert pending.is_silent(B)
    pending.clear(B)
    assert not pending.is_silent(B)
