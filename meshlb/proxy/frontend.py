"""A listener at run time: welcomes clients, and is what they all share.

How they are let in is for `door`.
"""

import socket
from collections.abc import Callable

import structlog
import trio

from meshlb.config.schema import ListenerSettings
from meshlb.core.http.forwarding import Forwarding
from meshlb.core.http.request import RequestParser
from meshlb.core.proxy_protocol import Ends
from meshlb.core.route import Decision
from meshlb.core.tls.names import ServerNames
from meshlb.errors import DownstreamError
from meshlb.net.last_resort import end_failed
from meshlb.net.reactor import Reactor
from meshlb.net.tls_server import ServerTls
from meshlb.proxy.arrival import Arrival
from meshlb.proxy.backend import Backend
from meshlb.proxy.carried import Carried
from meshlb.proxy.counters import ListenerCounters, ProxyCounters
from meshlb.proxy.door import ACCEPTS_PER_EVENT_MAX, Door, Turn
from meshlb.proxy.downstream import Downstream
from meshlb.proxy.greeting import Greeting, Handshakes
from meshlb.proxy.overhearing import Overhearing
from meshlb.proxy.passage import Passage
from meshlb.proxy.pool import Pool
from meshlb.proxy.stream import Channel, Stream
from meshlb.proxy.tunnel import Lease
from meshlb.proxy.tunnels import RENEWALS_PER_TTL, Tunnels

RECHECK_S_MAX = 5.0
"""Connections are asked for their time-outs at least so often."""

log = structlog.get_logger()


class Frontend(Door):
    """The run-time side of one `[[listener]]`.

    Attributes:
        draining: no new clients, and no further request from the old ones.
        parking: no new clients, and no further request before `resume`, or in another process.
        secure: clients come by TLS.
        recheck_s: how often a connection is asked for its time-outs; the shortest of them.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        pool: Pool,
        sock: socket.socket,
        *,
        tls: ServerTls | None,
        routes: ServerNames[Pool],
        reactor: Reactor,
        tunnels: Tunnels,
        nursery: trio.Nursery,
        table_ahead_s: float,
        counters: ProxyCounters,
        accepts_max: int = ACCEPTS_PER_EVENT_MAX,
        turn: Turn | None = None,
    ) -> None:
        """Wire a listener; `listen` lets clients in.

        Args:
            settings: from the configuration.
            pool: answers the requests.
            sock: bound, and perhaps listening already; the frontend owns it.
            tls: what `settings.tls` asks for.
            routes: other pools, by the server name that a client of TLS asks for.
            reactor: moves the bytes.
            tunnels: the register for upgraded connections.
            nursery: for the tasks of connections that wait for a decision.
            table_ahead_s: by how much table time is ahead of trio's clock.
            counters: of the process.
            accepts_max: clients let in per event; 0: other processes accept at this socket.
            turn: says when to leave newcomers to other processes.
        """
        tally = counters.listeners.setdefault(settings.name, ListenerCounters())
        super().__init__(settings.name, sock, reactor, tally, accepts_max=accepts_max, turn=turn)
        self.tunnels = tunnels
        self.nursery = nursery
        self.table_ahead_s = table_ahead_s
        self.counters = counters
        self.handshakes = Handshakes()
        self.draining = self.parking = False
        self._clients: set[Stream] = set()
        self._tunnels_open = 0
        self._emptied = trio.Event()
        self._emptied.set()
        self.use(settings, pool, tls=tls, routes=routes)

    def use(
        self,
        settings: ListenerSettings,
        pool: Pool,
        *,
        tls: ServerTls | None,
        routes: ServerNames[Pool],
    ) -> None:
        """Serve by other settings from now on; exchanges in progress end as they began."""
        self._settings = settings
        self.pool = pool
        self.routes = routes
        self.tls = tls
        self.secure = tls is not None
        self.timeouts = settings.timeouts
        self.response_timeout_s = pool.settings.response_timeout_s
        self.recheck_s = min(
            RECHECK_S_MAX,
            settings.timeouts.head_s,
            settings.timeouts.idle_s,
            pool.settings.response_timeout_s,
            *(rule.ttl_s / RENEWALS_PER_TTL for rule in pool.rules),
        )
        self.head_bytes_max = settings.max_head_bytes
        self.parser = RequestParser(
            head_bytes_max=settings.max_head_bytes,
            drop_cookie=pool.cookie_name.encode() if pool.cookie_name else None,
        )
        self.forwarding = Forwarding(settings.trusted_proxies, secure=self.secure)
        self.router = pool.router
        self.dispatcher = pool.dispatcher

    @property
    def settings(self) -> ListenerSettings:
        """What it serves by."""
        return self._settings

    def welcome(self, sock: socket.socket, peer: str) -> None:
        """Somebody has connected."""
        self.tally.accepted += 1
        if self._settings.proxy_protocol:
            self._begin(sock, lambda: Arrival(self, sock, peer))
        else:
            self.admit(sock, peer, None)

    def admit(self, sock: socket.socket, client: str, ends: Ends | None) -> None:
        """Go on with a client that is known.

        Args:
            sock: its connection.
            client: whom it is served for.
            ends: of the connection that a PROXY header told of; None: it is `sock` itself.
        """
        tls = self.tls
        if tls is not None:
            self._begin(sock, lambda: Greeting(self, tls, sock, client, ends))
        elif self._settings.sni:
            self._begin(sock, lambda: Overhearing(self, sock, client, ends))
        else:
            self.serve(sock, client, ends)

    def serve(self, sock: Channel, client: str, ends: Ends | None) -> None:
        """Serve a client whose bytes are its own; see `admit`."""
        if self._settings.protocol == "http":
            self._begin(sock, lambda: Downstream(self, sock, client, ends))
        else:
            self.pass_on(sock, client, ends, self.pool)

    def pass_on(
        self, sock: Channel, client: str, ends: Ends | None, pool: Pool, early: bytes = b""
    ) -> None:
        """Make a tunnel to `pool` for a client; it has sent `early` already. See `admit`."""
        self._begin(sock, lambda: Passage(self, sock, client, ends, pool, early))

    def refuse(
        self, sock: socket.socket, client: str, ends: Ends | None, error: DownstreamError
    ) -> None:
        """Tell a client in plain HTTP why it is not served; see `admit`."""

        def make() -> Downstream:
            refused = Downstream(self, sock, client, ends)
            refused.reject(error)
            return refused

        self._begin(sock, make)

    def _begin(self, sock: Channel, make: Callable[[], Stream]) -> None:
        try:
            stream = make()
        except Exception:
            # Where even that fails, it must not cost the listener.
            log.exception("a client could not be welcomed", listener=self.name)
            self.reactor.unregister(sock.fileno())
            sock.close()
            return
        if stream.closed:
            return
        if not self._clients:
            self._emptied = trio.Event()
        self._clients.add(stream)
        self.tally.connections = len(self._clients)
        if self.draining:
            stream.drain()
        elif self.parking:
            stream.park()

    def is_full(self) -> bool:
        """Whether there are as many clients as there may be."""
        return len(self._clients) + self._tunnels_open >= self._settings.max_connections

    def count_answer(self, status: int) -> None:
        """An answer with `status` goes to a client."""
        self.tally.answered[status // 100] += 1

    def count_malformed(self) -> None:
        """A request was refused because of its syntax or size."""
        self.tally.malformed += 1

    def tunnel(
        self, client: Stream, upstream: Stream, backend: Backend, decision: Decision[Backend]
    ) -> None:
        """From here on the bytes of `client` and `upstream` are a tunnel's."""
        self.tunnels.start(
            client,
            upstream,
            backend,
            decision,
            idle_s=self.timeouts.tunnel_idle_s,
            is_websocket=self._settings.protocol == "http",
            host=self,
        )
        self._tunnels_open += 1
        self.forget(client)

    def tunnel_ended(self) -> None:
        """A tunnel that came by here is no more, or another process's."""
        self._tunnels_open -= 1

    def adopt_tunnel(self, lease: Lease, downstream: Carried, upstream: Carried) -> None:
        """Go on with a tunnel of another process; `lease` names this listener."""
        self._tunnels_open += 1
        self.tunnels.adopt(lease, downstream, upstream)

    def adopt(self, sock: socket.socket, client: str, ends: Ends | None, begun: bytes) -> None:
        """Go on with an idle client of another process, which has read `begun` of a request."""

        def make() -> Downstream:
            adopted = Downstream(self, sock, client, ends)
            if begun:
                adopted.resume(begun)
            return adopted

        self._begin(sock, make)

    def forget(self, client: Stream) -> None:
        """The client's connection has ended, or is a tunnel's now."""
        self._clients.discard(client)
        self.tally.connections = len(self._clients)
        if not self._clients:
            self._emptied.set()

    def park(self) -> None:
        """Begin nothing: newcomers wait in the kernel's queue, and clients after their response."""
        self.parking = True
        self.leave_waiting()
        for client in self._clients:
            client.park()

    def unpark(self) -> None:
        """Go on as before `park`."""
        self.reactor.catch_up()
        self.parking = False
        self.listen()
        for client in list(self._clients):
            client.unpark()

    @property
    def clients(self) -> list[Stream]:
        """As they are now, tunnels apart."""
        return list(self._clients)

    def drain(self) -> None:
        """Stop accepting, and let each client go after the response in progress.

        Those who have connected already, and perhaps asked, are let in first.
        """
        self.reactor.catch_up()
        self.draining = True
        self.accept_waiting()
        self.stop_accepting()
        for client in list(self._clients):
            try:
                client.drain()
            except Exception:
                end_failed(client)

    @property
    def serves(self) -> bool:
        """Whether it has clients, tunnels apart."""
        return bool(self._clients)

    async def wait_empty(self) -> None:
        """Return when no client is left that is not a tunnel."""
        await self._emptied.wait()

    def close_all(self) -> None:
        """End every client's connection, whatever it is doing."""
        for client in list(self._clients):
            client.cut()
