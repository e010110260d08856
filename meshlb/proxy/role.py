"""What a data plane does of the work of its node, where several processes share it.

Owns only the choice. A node of one process does everything. Of several, one holds the listening
sockets and probes the backends, and the others accept and serve.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from meshlb.config.schema import BackendSettings, ListenerSettings
from meshlb.model import PoolName
from meshlb.net.sockets import bind_tcp, bind_udp
from meshlb.proxy.backend import Backend
from meshlb.proxy.door import ACCEPTS_PER_EVENT_MAX, Turn
from meshlb.proxy.pool import MakeBackend, Pool
from meshlb.proxy.probing import Probing


def _probe(pools: Iterable[Pool]) -> Probing:
    # Who does not probe need not load an HTTP client either.
    from meshlb.proxy.prober import Prober

    return Prober(pools)


def _bind(listener: ListenerSettings) -> socket.socket:
    return (bind_udp if listener.protocol == "udp" else bind_tcp)(listener.bind)


def _plain(pool: PoolName, settings: BackendSettings) -> Backend:
    return Backend(settings)


@dataclass(frozen=True, slots=True)
class Role:
    """The part of one process."""

    accepts_max: int = ACCEPTS_PER_EVENT_MAX
    """Clients that a listener lets in at a time; 0: other processes accept at its socket."""
    turn: Turn | None = None
    """Says when to leave newcomers to other processes; None: never."""
    probing: Callable[[Iterable[Pool]], Probing] = _probe
    """Makes what tells of the health of the backends."""
    make_backend: MakeBackend = _plain
    """Makes a backend of a pool."""
    bind: Callable[[ListenerSettings], socket.socket] = _bind
    """Gives a listener's socket, bound and not blocking, or raises `ListenError`."""

    @property
    def serves_datagrams(self) -> bool:
        """Whether it reads the sockets of UDP listeners.

        One process does that alone: datagrams that came to another one would be another flow.
        """
        return self is ALONE or not self.accepts_max


ALONE: Final = Role()
"""Everything in one process."""
