"""Who gets what is new, by each policy."""

from collections import Counter
from dataclasses import dataclass

import pytest

from meshlb.core.balance.policy import policy_named
from meshlb.core.balance.rendezvous import score
from meshlb.model import BackendName

POLICIES = ["round-robin", "least-connections", "rendezvous"]
GOLDEN_SCORE = 0.983964177441411
KEYS = [n.to_bytes(16) for n in range(6_000)]


@dataclass
class Fake:
    name: BackendName
    weight: int = 1
    connections: int = 0


def fakes(**weights: int) -> list[Fake]:
    return [Fake(BackendName(name), weight) for name, weight in weights.items()]


def shares(policy: str, candidates: list[Fake], keys: list[bytes]) -> Counter[str]:
    chooser = policy_named(policy)
    chosen = [chooser.choose(candidates, key) for key in keys]
    return Counter(candidate.name for candidate in chosen if candidate)


@pytest.mark.parametrize("policy", POLICIES)
class TestEveryPolicy:
    def test_shares_by_weight(self, policy):
        counts = shares(policy, fakes(a=3, b=2, c=1), KEYS)
        for name, expected in (("a", 3_000), ("b", 2_000), ("c", 1_000)):
            assert counts[name] == pytest.approx(expected, rel=0.1)

    def test_gives_nothing_to_a_weight_of_0(self, policy):
        assert set(shares(policy, fakes(a=0, b=1), KEYS[:50])) == {"b"}

    def test_has_nobody_without_a_weight(self, policy):
        chooser = policy_named(policy)
        assert chooser.choose(fakes(a=0), b"key") is None
        assert chooser.choose([], b"key") is None

    def test_shares_also_without_keys(self, policy):
        assert shares(policy, fakes(a=1, b=1), [b""] * 10) == {"a": 5, "b": 5}

    def test_copes_when_candidates_come_and_go(self, policy):
        chooser = policy_named(policy)
        a, b = fakes(a=1, b=1)
        for candidates in ([a, b], [a], [b], [b, a], [a]):
            assert chooser.choose(candidates, b"key") in candidates


def test_round_robin_spreads_the_turns_of_a_heavy_one():
    chooser = policy_named("round-robin")
    candidates = fakes(a=5, b=1, c=1)
    turns = [chooser.choose(candidates, b"") for _ in range(14)]
    assert "".join(turn.name for turn in turns if turn) == "aabacaa" * 2


def test_least_connections_prefers_room_for_its_weight():
    chooser = policy_named("least-connections")
    a, b = fakes(a=3, b=1)
    a.connections, b.connections = 5, 2
    assert chooser.choose([a, b], b"") is a
    a.connections = 7
    assert chooser.choose([a, b], b"") is b


def test_least_connections_that_last_are_shared_by_weight():
    chooser = policy_named("least-connections")
    candidates = fakes(a=3, b=2, c=1)
    for _ in range(60):
        chosen = chooser.choose(candidates, b"")
        assert chosen is not None
        chosen.connections += 1
    assert [candidate.connections for candidate in candidates] == [30, 20, 10]


class TestRendezvous:
    def test_all_nodes_choose_alike_whatever_the_order(self):
        one, other = policy_named("rendezvous"), policy_named("rendezvous")
        candidates = fakes(a=1, b=2, c=3)
        for key in KEYS[:200]:
            assert one.choose(candidates, key) is other.choose(candidates[::-1], key)

    def test_only_the_keys_of_a_lost_backend_move(self):
        chooser = policy_named("rendezvous")
        candidates = fakes(a=1, b=2, c=3)
        for key in KEYS[:500]:
            before = chooser.choose(candidates, key)
            after = chooser.choose(candidates[1:], key)
            assert before is after or before is candidates[0]

    def test_a_weight_moves_keys_only_to_the_heavier_one(self):
        chooser = policy_named("rendezvous")
        heavier = fakes(a=1, b=5)
        for key in KEYS[:500]:
            before = chooser.choose(fakes(a=1, b=2), key)
            after = chooser.choose(heavier, key)
            assert before is not None
            assert after is not None
            assert before.name == after.name or after.name == "b"

    def test_scores_do_not_change_from_release_to_release(self):
        assert score(bytes(16), "s1", 1) == pytest.approx(GOLDEN_SCORE, rel=1e-12)
        assert score(bytes(16), "s1", 3) == pytest.approx(3 * GOLDEN_SCORE, rel=1e-12)
