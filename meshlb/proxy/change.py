"""A change of the data plane's settings, prepared: whatever can fail has happened.

Owns what a reload needs before it may begin: the new pools, the certificates, and a bound socket
for each listener, be it one that is open already or a fresh one. What is not put to use is closed
again. It changes nothing that serves.
"""

import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from meshlb.config.schema import ListenerSettings, Settings
from meshlb.errors import ConfigError, ListenError
from meshlb.model import Address, PoolName
from meshlb.net.sockets import BACKLOG_CONNECTIONS, describe
from meshlb.net.tls_server import ServerTls
from meshlb.proxy.frontend import Frontend
from meshlb.proxy.pool import Pool
from meshlb.proxy.udp_frontend import UdpFrontend

AnyFrontend = Frontend | UdpFrontend


@dataclass(frozen=True, slots=True)
class Change:
    """Ready to be put in place in one step, or to be given up with `close`."""

    settings: Settings
    pools: Mapping[PoolName, Pool]
    tls: Mapping[str, ServerTls]
    """By the name of the listener that has it."""
    sockets: Mapping[str, socket.socket]
    """By the name of the listener that gets it."""
    fresh: frozenset[socket.socket]
    """Those of `sockets` that no frontend owns yet."""

    def close(self) -> None:
        """Give up: close what was opened for it."""
        for sock in self.fresh:
            sock.close()


def find_sockets(
    wanted: Iterable[ListenerSettings],
    frontends: Iterable[AnyFrontend],
    *,
    bind: Callable[[ListenerSettings], socket.socket],
    listening: bool,
) -> tuple[dict[str, socket.socket], frozenset[socket.socket]]:
    """A socket for each listener, and which of them are fresh.

    One that is bound as the configuration says is taken over, whatever its listener was called.

    Args:
        wanted: the listeners.
        frontends: who has sockets now.
        bind: gives a fresh one.
        listening: fresh ones listen at once, so that nothing about them can fail later.

    Raises:
        ConfigError: with each address that cannot be bound; nothing is left open.
    """
    held = _Held(frontends)
    sockets: dict[str, socket.socket] = {}
    fresh: set[socket.socket] = set()
    faults: list[str] = []
    # Whoever wants a free port goes last: the one it has may be wanted by its number.
    for settings in sorted(wanted, key=lambda settings: settings.bind.port == 0):
        sock = held.take(settings)
        if sock is None:
            try:
                sock = _open(settings, bind, listening=listening)
            except ListenError as error:
                faults.append(f"listener.{settings.name}.bind: {error}")
                continue
            fresh.add(sock)
        sockets[settings.name] = sock
    if faults:
        for sock in fresh:
            sock.close()
        raise ConfigError(faults)
    return sockets, frozenset(fresh)


class _Held:
    """The sockets that are open now, each to be taken once."""

    def __init__(self, frontends: Iterable[AnyFrontend]) -> None:
        self._by_place: dict[tuple[Address, bool], socket.socket] = {}
        self._by_name: dict[tuple[str, Address, bool], socket.socket] = {}
        for frontend in frontends:
            settings, sock = frontend.settings, frontend.sock
            if sock is not None:
                is_udp = settings.protocol == "udp"
                self._by_place[frontend.address, is_udp] = sock
                self._by_name[settings.name, settings.bind, is_udp] = sock

    def take(self, settings: ListenerSettings) -> socket.socket | None:
        """The one that is bound as `settings` say; None: there is none, or it is taken."""
        is_udp = settings.protocol == "udp"
        if settings.bind.port:
            sock = self._by_place.pop((settings.bind, is_udp), None)
        else:
            sock = self._by_name.pop((settings.name, settings.bind, is_udp), None)
            if sock not in self._by_place.values():
                return None
        return sock


def _open(
    settings: ListenerSettings,
    bind: Callable[[ListenerSettings], socket.socket],
    *,
    listening: bool,
) -> socket.socket:
    sock = bind(settings)
    if listening and sock.type is socket.SOCK_STREAM:
        try:
            sock.listen(BACKLOG_CONNECTIONS)
        except OSError as error:
            sock.close()
            raise ListenError(f"cannot listen on {settings.bind}: {describe(error)}") from error
    return sock
