"""Who tells a data plane whether its backends are well: the interface, without behaviour.

A process that probes has a `prober.Prober`; one that is told by another process has no probes.
"""

from collections.abc import Iterable
from typing import Protocol

from meshlb.proxy.backend import Backend
from meshlb.proxy.pool import Pool


class Probing(Protocol):
    """See `prober.Prober`."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    async def wait_first_round(self) -> None:
        """Return once something is known of every backend."""
        ...

    def doubt(self, backend: Backend) -> None:
        """A connect to `backend` failed."""
        ...

    async def look_at_new(self, pools: Iterable[Pool]) -> None:
        """Learn of the backends that are not followed yet."""
        ...

    def follow(self, pools: Iterable[Pool]) -> None:
        """The backends of `pools` are those of the configuration from now on."""
        ...
