"""Keys and the backends they want."""

import pytest

from meshlb.core.balance.rendezvous import Rendezvous, score
from tests.fakes.candidates import candidates

GOLDEN_SCORE = 0.983964177441411
"""Of the zero key and `s1`. Another value, and nodes of two releases choose differently."""

KEYS = [n.to_bytes(16) for n in range(500)]


def test_all_nodes_choose_alike_whatever_the_order():
    among = candidates(a=1, b=2, c=3)
    for key in KEYS:
        assert Rendezvous().choose(among, key) is Rendezvous().choose(among[::-1], key)


def test_only_the_keys_of_a_lost_backend_move():
    chooser = Rendezvous()
    among = candidates(a=1, b=2, c=3)
    for key in KEYS:
        before = chooser.choose(among, key)
        after = chooser.choose(among[1:], key)
        assert before is after or before is among[0]


def test_a_weight_moves_keys_only_to_the_heavier_one():
    chooser = Rendezvous()
    for key in KEYS:
        before = chooser.choose(candidates(a=1, b=2), key)
        after = chooser.choose(candidates(a=1, b=5), key)
        assert before is not None
        assert after is not None
        assert before.name == after.name or after.name == "b"


def test_a_long_key_is_a_key():
    among = candidates(a=1, b=1)
    assert Rendezvous().choose(among, b"k" * 100) in among


def test_scores_do_not_change_from_release_to_release():
    assert score(bytes(16), "s1", 1) == pytest.approx(GOLDEN_SCORE, rel=1e-12)
    assert score(bytes(16), "s1", 3) == pytest.approx(3 * GOLDEN_SCORE, rel=1e-12)
