"""What a data plane consists of, made by its settings: pools, listeners and their TLS.

Owns what all of them are made with, the stick table and the secrets too, which may be others later.
It must not know what is in use: the plane has that, and puts one in the place of another.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from meshlb.config.schema import ListenerSettings, Settings
from meshlb.core.sticky.table import StickTable
from meshlb.core.tls.names import ServerNames
from meshlb.model import PoolName
from meshlb.net.reactor import Reactor
from meshlb.net.tls_server import ServerTls
from meshlb.proxy.backend import Backend
from meshlb.proxy.change import AnyFrontend
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.frontend import Frontend
from meshlb.proxy.pool import Pool
from meshlb.proxy.role import Role
from meshlb.proxy.tunnels import Tunnels
from meshlb.proxy.udp_frontend import UdpFrontend


@dataclass(slots=True, kw_only=True)
class Making:
    """Makes the parts of one data plane.

    Attributes:
        table, table_now: the stick table, and its clock in seconds.
        cookie_secrets: the first seals load-balancer cookies and TLS tickets, all open them.
        key_secret: keys the hash of session keys.
        doubt: told of a backend to which a connect has failed.
    """

    reactor: Reactor
    counters: ProxyCounters
    tunnels: Tunnels
    role: Role
    table: StickTable
    table_now: Callable[[], float]
    cookie_secrets: tuple[bytes, ...]
    key_secret: bytes
    doubt: Callable[[Backend], None]

    def table_ahead_s(self) -> float:
        """How far the table's clock is ahead of trio's."""
        return self.table_now() - trio.current_time()

    def pools(self, settings: Settings, *, before: Mapping[PoolName, Pool]) -> dict[PoolName, Pool]:
        """All pools, with the backends that they have had `before`."""
        return {
            name: Pool(
                name,
                pool,
                reactor=self.reactor,
                table=self.table,
                table_now=self.table_now,
                cookie_secrets=self.cookie_secrets,
                key_secret=self.key_secret,
                counters=self.counters,
                doubt=self.doubt,
                make_backend=self.role.make_backend,
                before=before.get(name),
            )
            for name, pool in settings.pools.items()
        }

    def tls(self, settings: Settings) -> dict[str, ServerTls]:
        """What the listeners that speak TLS show their clients, by name.

        Raises:
            ConfigError: certificates that cannot be used.
        """
        return {
            listener.name: ServerTls(
                listener.tls,
                listener=listener.name,
                speaks_http=listener.protocol == "http",
                secrets=self.cookie_secrets,
                now=self.table_now,
            )
            for listener in settings.listeners
            if listener.tls is not None
        }

    def frontend(
        self,
        settings: ListenerSettings,
        sock: socket.socket,
        *,
        pools: Mapping[PoolName, Pool],
        tls: ServerTls | None,
        nursery: trio.Nursery,
    ) -> AnyFrontend:
        """A listener at a bound socket, which is the listener's from now on."""
        if settings.protocol == "udp":
            return UdpFrontend(
                settings,
                pools[settings.pool],
                sock,
                reactor=self.reactor,
                nursery=nursery,
                table_ahead_s=self.table_ahead_s(),
                counters=self.counters,
                serves_datagrams=self.role.serves_datagrams,
            )
        return Frontend(
            settings,
            pools[settings.pool],
            sock,
            tls=tls,
            routes=routes(settings, pools),
            reactor=self.reactor,
            tunnels=self.tunnels,
            nursery=nursery,
            table_ahead_s=self.table_ahead_s(),
            counters=self.counters,
            accepts_max=self.role.accepts_max,
            turn=self.role.turn,
        )


def routes(settings: ListenerSettings, pools: Mapping[PoolName, Pool]) -> ServerNames[Pool]:
    """The pools to which a listener passes TLS through, by the name in the ClientHello."""
    return ServerNames({name: pools[route.pool] for route in settings.sni for name in route.names})
