"""What every policy does, whatever else it does."""

from collections import Counter

import pytest

from meshlb.core.balance.policy import policy_named
from tests.fakes.candidates import FakeCandidate, candidates

POLICIES = ["round-robin", "least-connections", "rendezvous"]
KEYS = [n.to_bytes(16) for n in range(6_000)]


def shares(policy: str, among: list[FakeCandidate], keys: list[bytes]) -> Counter[str]:
    chooser = policy_named(policy)
    chosen = [chooser.choose(among, key) for key in keys]
    return Counter(candidate.name for candidate in chosen if candidate)


@pytest.mark.parametrize("policy", POLICIES)
class TestEveryPolicy:
    def test_shares_by_weight(self, policy):
        counts = shares(policy, candidates(a=3, b=2, c=1), KEYS)
        for name, expected in (("a", 3_000), ("b", 2_000), ("c", 1_000)):
            assert counts[name] == pytest.approx(expected, rel=0.1)

    def test_gives_nothing_to_a_weight_of_0(self, policy):
        assert set(shares(policy, candidates(a=0, b=1), KEYS[:50])) == {"b"}

    def test_has_nobody_without_a_weight(self, policy):
        chooser = policy_named(policy)
        assert chooser.choose(candidates(a=0), b"key") is None
        assert chooser.choose([], b"key") is None

    def test_shares_also_without_keys(self, policy):
        assert shares(policy, candidates(a=1, b=1), [b""] * 10) == {"a": 5, "b": 5}

    def test_copes_when_candidates_come_and_go(self, policy):
        chooser = policy_named(policy)
        a, b = candidates(a=1, b=1)
        for left in ([a, b], [a], [b], [b, a], [a]):
            assert chooser.choose(left, b"key") in left
