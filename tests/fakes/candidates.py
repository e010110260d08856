"""Backends as a balancing policy sees them."""

from dataclasses import dataclass

from meshlb.model import BackendName


@dataclass
class FakeCandidate:
    name: BackendName
    weight: int = 1
    load: int = 0


def candidates(**weights: int) -> list[FakeCandidate]:
    """One for each name, with its weight."""
    return [FakeCandidate(BackendName(name), weight) for name, weight in weights.items()]
