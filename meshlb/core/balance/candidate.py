"""What a policy chooses among: a backend, seen through the little that balancing needs."""

from typing import Protocol, TypeVar

from meshlb.model import BackendName


class Candidate(Protocol):
    """A backend as a policy sees it."""

    @property
    def name(self) -> BackendName:
        """Unique in its pool."""
        ...

    @property
    def weight(self) -> int:
        """Its share of what is new, relative to the others; 0: nothing new."""
        ...

    @property
    def connections(self) -> int:
        """The exchanges and tunnels that use it now, as far as this node knows."""
        ...


C = TypeVar("C", bound=Candidate)
