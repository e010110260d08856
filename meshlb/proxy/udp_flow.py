"""A flow: the datagrams of one client, and those that one backend sends back.

Owns where they go: a decision by the client's address, claimed where the cluster has to agree, a
socket that speaks with the backend alone, and another decision when that backend fails. UDP tells
of no end, so a flow ends when nothing has come for a while, or when others need its place.

    deciding  `_sock` is None: what comes waits, a little of it
              → open (a backend is known), closed (nobody can serve it)
    open      datagrams go straight through
              → deciding (the backend has failed, or takes it no longer), closed
"""

import socket
from typing import TYPE_CHECKING

import trio

from meshlb.core.route import Decision
from meshlb.errors import UpstreamError
from meshlb.model import BackendName
from meshlb.net.datagrams import Ancillary, Source, connect_udp, open_udp
from meshlb.net.last_resort import end_failed
from meshlb.net.reactor import READ
from meshlb.net.sockets import is_ip
from meshlb.proxy.backend import Backend

if TYPE_CHECKING:
    from meshlb.proxy.udp_frontend import UdpFrontend

WAITING_MAX = 16
"""Datagrams of a flow that wait for a decision; later ones are dropped."""

CLAIMS_MAX = 2
"""Claims that a flow makes before it takes a backend without agreement, or gives up."""

REPLIES_PER_EVENT_MAX = 32
DRAIN_QUIET_S = 1.0
"""A flow that is silent for so long holds up nobody who wants to leave."""


class UdpFlow:
    """One client of a `UdpFrontend`.

    Attributes:
        source: the client's address.
        progress_at: monotonic seconds of the last datagram, either way.
    """

    __slots__ = (
        "_answering",
        "_backend",
        "_claims",
        "_client",
        "_deciding",
        "_decision",
        "_failed",
        "_frontend",
        "_scope",
        "_sock",
        "_waiting",
        "closed",
        "key",
        "progress_at",
        "source",
    )

    def __init__(
        self, frontend: "UdpFrontend", key: object, source: Source, answering: Ancillary
    ) -> None:
        """A flow of `source`, known as `key`; `answering` sends from where its datagrams came."""
        self._frontend = frontend
        self._answering = answering
        self._client = source[0].encode()
        self._decision: Decision[Backend] = Decision(None)
        self._backend: Backend | None = None
        self._deciding = False
        self._failed: set[BackendName] = set()
        self._claims = 0
        self._scope: trio.CancelScope | None = None
        self._sock: socket.socket | None = None
        self._waiting: list[bytes] = []
        self.closed = False
        self.key = key
        self.source = source
        self.progress_at = frontend.reactor.now
        frontend.reactor.schedule(self, self.progress_at + frontend.recheck_s)

    # From the client

    def take(self, datagram: memoryview) -> None:
        """Pass a datagram of the client on."""
        self.progress_at = self._frontend.reactor.now
        if self._backend is not None and not self._backend.takes_pinned:
            self._part()
        self._forward(datagram)
        if self._sock is None and not self._deciding:
            self._decide()

    def _forward(self, datagram: memoryview | bytes) -> None:
        """Send a datagram, or keep it until it can be sent."""
        if self._sock is not None:
            self._send(self._sock, datagram)
        else:
            self._wait(bytes(datagram))

    def _wait(self, datagram: bytes) -> None:
        if len(self._waiting) < WAITING_MAX and self._frontend.may_wait(len(datagram)):
            self._waiting.append(datagram)
        else:
            self._frontend.count_dropped("waiting")

    def _send(self, sock: socket.socket, datagram: memoryview | bytes) -> None:
        try:
            sock.send(datagram)
        except (ConnectionRefusedError, InterruptedError):
            # It is an earlier datagram that was refused; this one has not been sent.
            self._move(bytes(datagram))
        except OSError:
            # The queue is full, the datagram too long, the way closed: the network loses some too.
            self._frontend.count_dropped("unsent")
        else:
            self._frontend.counters.relayed_up_bytes += len(datagram)

    # Whereto

    def _decide(self) -> None:
        frontend = self._frontend
        frontend.reactor.catch_up()
        self._deciding = True
        self._claims = 0
        self._failed.clear()
        self._decision = frontend.router.route(None, self._client, frontend.table_now)
        if self._decision.pin is not None:
            frontend.counters.pins_hit += 1
        self._go_on()

    def claimed(self) -> None:
        """The cluster has decided."""
        if not self.closed:
            self._go_on()

    def _go_on(self) -> None:
        decision, frontend = self._decision, self._frontend
        backend = decision.backend
        if decision.proposal is not None and self._claims >= CLAIMS_MAX:
            frontend.router.without_pin(decision, self._failed)
            backend = decision.backend
        if decision.proposal is not None:
            self._claims += 1
            frontend.dispatcher.claim_soon(decision, self)
        elif backend is None:
            self._give_up()
        elif backend.name in self._failed:
            # The cluster insists on the one that has just failed here.
            frontend.router.redirect(decision, self._failed)
            self._go_on()
        elif is_ip(backend.address.host):
            try:
                self._open(backend, open_udp(backend.address))
            except UpstreamError:
                self._give_up()
        else:
            frontend.nursery.start_soon(self._connect, backend)

    def _give_up(self) -> None:
        """Nobody can have what waits."""
        self._frontend.count_dropped("no-backend", len(self._waiting))
        self.close()

    async def _connect(self, backend: Backend) -> None:
        try:
            with trio.CancelScope() as self._scope:
                try:
                    sock = await connect_udp(backend.address)
                except UpstreamError:
                    self._give_up()
                    return
                self._open(backend, sock)
        except Exception:
            end_failed(self)
        finally:
            self._scope = None

    def _open(self, backend: Backend, sock: socket.socket) -> None:
        if self.closed:
            sock.close()
            return
        self._deciding = False
        self._sock, self._backend = sock, backend
        backend.occupy()
        self._frontend.reactor.catch_up()
        self._frontend.reactor.register(sock.fileno(), self._on_replies, READ)
        waiting, self._waiting = self._waiting, []
        for datagram in waiting:
            self._frontend.waits_no_longer(len(datagram))
            self._forward(datagram)

    def _move(self, *unsent: bytes) -> None:
        """The backend's port is closed: what it has not got goes elsewhere."""
        backend, frontend = self._backend, self._frontend
        assert backend is not None
        self._part()
        self._deciding = True
        for datagram in unsent:
            self._wait(datagram)
        self._failed.add(backend.name)
        frontend.dispatcher.doubt(backend)
        frontend.counters.redispatches += 1
        frontend.router.redirect(self._decision, self._failed)
        self._go_on()

    def _part(self) -> None:
        """Leave the backend."""
        sock, self._sock = self._sock, None
        backend, self._backend = self._backend, None
        if sock is not None and backend is not None:
            self._frontend.reactor.unregister(sock.fileno())
            sock.close()
            backend.vacate()

    # From the backend

    def _on_replies(self, event: int) -> None:
        frontend = self._frontend
        for _ in range(REPLIES_PER_EVENT_MAX):
            if self._sock is None:
                return
            try:
                size = self._sock.recv_into(frontend.buffer)
            except BlockingIOError:
                return
            except OSError:
                self._move()
                return
            self.progress_at = frontend.reactor.now
            self._claims = 0
            self._failed.clear()
            frontend.reply(self.source, self._answering, size)

    # Time

    def check_deadline(self, now: float) -> float | None:
        """End a silent flow; renew the pin of one that lives."""
        if self.closed:
            return None
        frontend = self._frontend
        quiet_s = DRAIN_QUIET_S if frontend.draining else frontend.timeouts.idle_s
        if now >= self.progress_at + quiet_s:
            self.close()
            return None
        frontend.router.renew(self._decision, now + frontend.table_ahead_s)
        return min(self.progress_at + quiet_s, now + frontend.recheck_s)

    def abort(self) -> None:
        """The last resort."""
        self.close()

    def close(self) -> None:
        """End the flow; a later datagram of the client begins another one."""
        if not self.closed:
            self.closed = True
            self._part()
            waiting, self._waiting = self._waiting, []
            self._frontend.waits_no_longer(sum(map(len, waiting)))
            self._frontend.forget(self)
            if self._scope is not None:
                self._scope.cancel()
