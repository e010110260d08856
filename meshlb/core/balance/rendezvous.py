"""Weighted rendezvous: the key and a backend's name decide, so all nodes choose alike.

Every backend draws a number from the hash of key and name; the best one wins. When a backend
goes, only its keys move, and each of them to the same place on all nodes. Weights enter as in
Schindelhauer and Schomaker's logarithmic method: the score `-weight / ln(u)`, for u uniform in
(0, 1), wins with a probability in proportion to the weight, and changing one weight moves keys
only from or to that backend.
"""

import hashlib
import math
from collections.abc import Sequence

from meshlb.core.balance.candidate import C
from meshlb.core.balance.round_robin import RoundRobin

HASH_BYTES = 8


class Rendezvous:
    """Implements `Policy`."""

    __slots__ = ("_without_key",)

    def __init__(self) -> None:
        self._without_key = RoundRobin()

    def choose(self, candidates: Sequence[C], key: bytes) -> C | None:
        """The one with the best score for `key`; in turn where there is no key."""
        if not key:
            return self._without_key.choose(candidates)
        return max(
            (candidate for candidate in candidates if candidate.weight > 0),
            key=lambda candidate: (score(key, candidate.name, candidate.weight), candidate.name),
            default=None,
        )


def score(key: bytes, name: str, weight: int) -> float:
    """How much the backend `name` wants `key`; positive, for a positive weight."""
    digest = hashlib.blake2b(name.encode(), digest_size=HASH_BYTES, key=key[:64]).digest()
    drawn = (int.from_bytes(digest) + 0.5) / 2 ** (8 * HASH_BYTES)
    # Rounding may make it 1.0, whose logarithm is 0.
    return -weight / math.log(min(drawn, 1 - 2**-53))
