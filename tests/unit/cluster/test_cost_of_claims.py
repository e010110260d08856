"""What the agreement on one key takes, counted: three nodes in memory, and a clock that stands."""

import time
from contextlib import ExitStack

import pytest

from tests.bench.agreement import NAMES, Node, connected, counted

CLAIMS = 60
"""At each node: enough for each of them to be home, backup and neither."""

ROUNDS_MAX = 100


def claim(nodes: list[Node]) -> None:
    """Each node claims a key, one after the other, and all that follows ends."""
    for node in nodes:
        done = node.done
        node.round(window=1)
        for _ in range(ROUNDS_MAX):
            for other in nodes:
                other.round(window=0)
            if node.done > done and not any(other.wires.arrived for other in nodes):
                break
        assert node.done == done + 1


def test_a_claim_alone_takes_five_frames_three_commits_and_no_hedge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    with ExitStack() as stack:
        nodes = connected(stack)
        before = counted(nodes)
        for _ in range(CLAIMS):
            claim(nodes)
        after = counted(nodes)
    claims, commits, frames, _ = (late - early for early, late in zip(before, after, strict=True))
    assert claims == CLAIMS * len(NAMES)
    # Where the claimer is neither: claim, proposal, answer, and the news to both others.
    assert 4 * claims <= frames <= 5 * claims
    assert commits == 3 * claims
    assert not any(node.turns.claims.counters.hedged for node in nodes)
