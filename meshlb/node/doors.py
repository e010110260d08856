"""The sockets of a node that outlive its membership, and can be its next process's.

Owns the cluster's two ports, the admin API's, and what an earlier process has left of the
listeners'. What is bound otherwise than the configuration says now is closed, and bound anew.
"""

from collections.abc import Sequence
from socket import SOCK_DGRAM, SOCK_STREAM, socket

from meshlb.admin.serve import AdminDoor
from meshlb.cluster.ports import bind_ports
from meshlb.config import Settings, UnixPath
from meshlb.model import Address
from meshlb.net.parcels import Parcel
from meshlb.net.sockets import address_of


class Doors:
    """Of one process; `close` or `hand_over` ends it.

    Attributes:
        cluster: UDP and TCP; none for a node that stands alone.
        admin: of the admin API.
        listeners: by name, for the data plane to take; those that it need not bind.
    """

    def __init__(self, settings: Settings, inherited: Parcel | None = None) -> None:
        """Bind what is not inherited.

        Raises:
            ListenError: an address cannot be bound; nothing is left open.
        """
        left = _Left(inherited)
        self.listeners = left.listeners(settings)
        self.cluster: Sequence[socket] = ()
        try:
            if settings.cluster is not None:
                bind = settings.cluster.bind
                self.cluster = left.cluster(bind) or bind_ports(bind)
            self.admin = AdminDoor(settings.admin.bind, left.admin(settings.admin.bind))
        except BaseException:
            for sock in (*self.cluster, *self.listeners.values()):
                sock.close()
            raise
        finally:
            left.close()

    def close(self) -> None:
        """The node ends."""
        self.admin.close()
        self._close_others()

    def hand_over(self) -> None:
        """Another process has them all."""
        self.admin.hand_over()
        self._close_others()

    def _close_others(self) -> None:
        for sock in (*self.cluster, *self.listeners.values()):
            sock.close()


class _Left:
    """What an earlier process has left; what is not taken is closed."""

    def __init__(self, inherited: Parcel | None) -> None:
        sockets = [] if inherited is None else list(inherited.sockets)
        names: list[str] = [] if inherited is None else inherited.facts["listeners"]
        ports: int = 0 if inherited is None else inherited.facts["cluster"]
        self._listeners = dict(zip(names, sockets, strict=False))
        self._ports = sockets[len(names) : len(names) + ports]
        self._admin = sockets[-1] if sockets else None
        self._untaken = set(sockets)

    def listeners(self, settings: Settings) -> dict[str, socket]:
        """For each listener the one that is bound as it shall be, if there is one."""
        places = {(address_of(sock), sock.type): sock for sock in self._listeners.values()}
        found: dict[str, socket] = {}
        for listener in settings.listeners:
            if listener.bind.port:
                kind = SOCK_DGRAM if listener.protocol == "udp" else SOCK_STREAM
                sock = places.get((listener.bind, kind))
            else:
                sock = self._listeners.get(listener.name)
                if sock is not None and address_of(sock).host != listener.bind.host:
                    sock = None
            if sock in self._untaken and sock is not None:
                found[listener.name] = self._take(sock)
        return found

    def cluster(self, bind: Address) -> Sequence[socket]:
        """The cluster's two ports, if they are bound there."""
        if not self._ports or (bind.port and address_of(self._ports[0]) != bind):
            return ()
        return [self._take(sock) for sock in self._ports]

    def admin(self, bind: Address | UnixPath) -> socket | None:
        """The admin API's, if it is bound there."""
        if self._admin is None:
            return None
        place = self._admin.getsockname()
        if isinstance(bind, UnixPath):
            is_there = place == str(bind.path)
        else:
            is_there = isinstance(place, tuple) and place[0] == bind.host
            is_there = is_there and bind.port in (0, place[1])
        return self._take(self._admin) if is_there else None

    def _take(self, sock: socket) -> socket:
        self._untaken.discard(sock)
        return sock

    def close(self) -> None:
        """Nobody wants the others."""
        for sock in self._untaken:
            sock.close()
