"""Turns."""

from meshlb.core.balance import round_robin
from meshlb.core.balance.round_robin import RoundRobin
from tests.fakes.candidates import candidates


def test_a_heavy_one_has_its_turns_spread():
    chooser = RoundRobin()
    among = candidates(a=5, b=1, c=1)
    turns = [chooser.choose(among) for _ in range(14)]
    assert "".join(turn.name for turn in turns if turn) == "aabacaa" * 2


def test_two_pools_do_not_share_turns():
    among = candidates(a=1, b=1)
    for chooser in (RoundRobin(), RoundRobin()):
        assert chooser.choose(among) is among[0]


def test_names_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(round_robin, "BACKENDS_MAX", 3)
    chooser = RoundRobin()
    for n in range(50):
        among = candidates(**{f"backend{n}": 1, "stays": 1})
        assert chooser.choose(among) in among
        assert len(chooser._credit) <= 5
