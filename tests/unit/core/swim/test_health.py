import pytest

from meshlb.core.swim.health import LAG_NOTED_S, SCORE_MAX, Health


def test_silent_helpers_are_blamed_on_this_node_and_honest_nacks_are_not():
    health = Health(lag_ill_s=0.15)
    health.probe_failed(nacks_missing=0, helpers=3)
    assert health.scale == 1
    health.probe_failed(nacks_missing=2, helpers=3)
    assert health.scale == 3


def test_a_failure_that_nobody_could_judge_counts_against_this_node():
    health = Health(lag_ill_s=0.15)
    health.probe_failed(nacks_missing=0, helpers=0)
    assert health.score == 1


def test_the_score_stays_in_its_bounds():
    health = Health(lag_ill_s=0.15)
    health.probe_succeeded()
    assert health.score == 0
    for _ in range(2 * SCORE_MAX):
        health.was_accused()
    assert health.score == SCORE_MAX


def test_the_same_standstill_is_credited_once():
    health = Health(lag_ill_s=0.15)
    assert health.credit_lag(since=1.0, now=2.0) == pytest.approx(1.0)
    assert health.credit_lag(since=1.2, now=2.0) == 0.0
    assert health.credit_lag(since=1.5, now=2.3) == pytest.approx(0.3)


def test_ordinary_jitter_is_no_lag():
    health = Health(lag_ill_s=0.15)
    assert health.credit_lag(since=1.0, now=1.0 + LAG_NOTED_S / 2) == 0.0
    assert health.credit_lag(since=2.0, now=1.0) == 0.0


def test_only_a_lag_that_others_would_notice_lowers_health():
    health = Health(lag_ill_s=0.15)
    health.credit_lag(since=1.0, now=1.1)
    assert health.score == 0
    health.credit_lag(since=2.0, now=2.2)
    assert health.score == 1
