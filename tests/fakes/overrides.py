"""A place for operators' words that keeps none."""

from collections.abc import Iterable

from meshlb.wire.messages import BackendOverride


class NoKeeper:
    """A `Keeper` of a node without a disk."""

    def load(self) -> tuple[BackendOverride, ...]:
        return ()

    def save(self, words: Iterable[BackendOverride]) -> None:
        """Forgets them."""
