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
    def load(self) -> int:
        """The exchanges and tunnels of all nodes that use it now, as far as this one knows."""
        ...


C = TypeVar("C", bound=Candidate)
