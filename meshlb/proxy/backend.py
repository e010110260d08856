"""One backend as this node sees it: its state, its load, its idle connections.

`state` is derived from two sources: what the prober measured (`healthy`) and what an operator
ordered for the whole cluster (`ordered`). Everything a request needs is precomputed on change.
Satisfies `meshlb.core.balance.policy.Candidate`.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from meshlb.config.schema import BackendSettings
from meshlb.model import Address, BackendName, BackendState

if TYPE_CHECKING:
    from meshlb.proxy.upstream import Upstream

IDLE_CONNECTIONS_MAX: Final = 256
"""Idle keep-alive connections held to one backend; more are closed when they become idle."""


class Occupancy(Protocol):
    """The connections to one backend, as all processes of this node count them together."""

    def change(self, by: int) -> None:
        """So many more are this process's."""
        ...

    def here(self) -> int:
        """Those of all processes of this node."""
        ...

    def everywhere(self) -> int:
        """Those of all nodes, as far as they are known."""
        ...


class Backend:
    """The origin at `address`.

    Attributes:
        connections: exchanges and tunnels of this process that are using it now.
        elsewhere: those of other nodes, as far as they are known.
        occupancy: what several processes of a node count together; None where there is only one.
        takes_new: whether a new pin, or a request without one, may be sent here.
        takes_pinned: whether a request that is pinned here may be sent here.
        reason: what the last probe found wrong; empty while all is well.
        idle: keep-alive connections that wait for a request, the latest last.
    """

    __slots__ = (
        "_healthy",
        "_on_change",
        "_ordered",
        "_retired",
        "address",
        "connections",
        "elsewhere",
        "idle",
        "name",
        "occupancy",
        "reason",
        "takes_new",
        "takes_pinned",
        "weight",
    )

    def __init__(
        self,
        settings: BackendSettings,
        *,
        occupancy: Occupancy | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """An origin that is taken for well; `on_change` is called with each change of its state."""
        self.name = BackendName(settings.name)
        self.address: Address = settings.address
        self.weight: int = settings.weight
        self.connections = 0
        self.elsewhere = 0
        self.occupancy = occupancy
        self._on_change: Callable[[], None] = lambda: None
        self.reason = ""
        self.idle: list[Upstream] = []
        self._healthy = True
        self._ordered = BackendState.UP
        self._retired = False
        self._derive()
        self._on_change = on_change

    @property
    def state(self) -> BackendState:
        """What an operator sees: an order that takes it out of service covers its health."""
        if self._ordered is BackendState.MAINTENANCE:
            return BackendState.MAINTENANCE
        return self._ordered if self._healthy else BackendState.DOWN

    @property
    def healthy(self) -> bool:
        """What the prober last concluded."""
        return self._healthy

    def set_healthy(self, healthy: bool) -> None:
        """The prober's conclusion."""
        self._healthy = healthy
        self._derive()

    def order(self, state: BackendState) -> None:
        """An operator's word: `UP`, `DRAINING` or `MAINTENANCE`."""
        self._ordered = state
        self._derive()

    def weigh(self, weight: int) -> None:
        """Its share of the new sessions is another one from now on."""
        self.weight = weight
        self._derive()

    def retire(self) -> None:
        """It is configured no longer: what is in progress there ends, and nothing begins."""
        self._retired = True
        self._derive()

    def _derive(self) -> None:
        state = self.state
        self.takes_new = state is BackendState.UP and self.weight > 0 and not self._retired
        self.takes_pinned = state in (BackendState.UP, BackendState.DRAINING) and not self._retired
        if not self.takes_pinned:
            self.close_idle()
        self._on_change()

    @property
    def ordered(self) -> BackendState:
        """An operator's latest word."""
        return self._ordered

    @property
    def in_use(self) -> int:
        """Exchanges and tunnels of this node that are using it now."""
        return self.connections if self.occupancy is None else self.occupancy.here()

    @property
    def load(self) -> int:
        """Exchanges and tunnels of all nodes that are using it now, as far as they are known."""
        if self.occupancy is None:
            return self.connections + self.elsewhere
        return self.occupancy.everywhere()

    def occupy(self) -> None:
        """An exchange or a tunnel begins."""
        self.connections += 1
        if self.occupancy is not None:
            self.occupancy.change(1)

    def vacate(self) -> None:
        """One has ended."""
        self.connections -= 1
        if self.occupancy is not None:
            self.occupancy.change(-1)

    def take_idle(self, *, must_be_quiet: bool) -> "Upstream | None":
        """An idle connection, counted as in use from now on; None: open a new one.

        Args:
            must_be_quiet: ask the kernel whether the backend has closed it, or spoken out of
                turn; for requests that cannot be repeated if it has, and where more than the
                present batch of events has passed since it was last looked at.
        """
        while self.idle:
            upstream = self.idle.pop()
            if not must_be_quiet or upstream.is_quiet():
                self.occupy()
                return upstream
            upstream.close()
        return None

    def close_idle(self, *, since: float = math.inf) -> None:
        """Close the connections that wait for a request; of those, that have not moved `since`."""
        idle, self.idle = self.idle, []
        for upstream in idle:
            if upstream.progress_at > since:
                self.idle.append(upstream)
            else:
                upstream.close()
