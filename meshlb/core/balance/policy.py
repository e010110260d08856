"""Balancing policies: one method that picks a backend for something new, and their names.

Owns the interface, and the words of the configuration for those who implement it. Which backends
may be picked at all (up, not draining, not tried already) is settled before; a policy only weighs
them.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from meshlb.core.balance.candidate import C, Candidate
from meshlb.core.balance.least_connections import LeastConnections
from meshlb.core.balance.rendezvous import Rendezvous
from meshlb.core.balance.round_robin import RoundRobin

__all__ = ["Candidate", "Policy", "policy_named"]


class Policy(Protocol):
    """Picks one of several backends."""

    def choose(self, candidates: Sequence[C], key: bytes) -> C | None:
        """The backend for a new session, or for a request without one.

        Args:
            candidates: those that may be picked, in the order of the configuration.
            key: the session key; empty where there is none.

        Returns:
            One of `candidates`; None if none has a weight.
        """
        ...


_POLICIES: Final[Mapping[str, Callable[[], Policy]]] = MappingProxyType(
    {
        "round-robin": RoundRobin,
        "least-connections": LeastConnections,
        "rendezvous": Rendezvous,
    }
)


def policy_named(name: str) -> Policy:
    """A new policy for one pool, by its name in the configuration (`balance`)."""
    return _POLICIES[name]()
