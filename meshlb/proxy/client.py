"""A client's connection: its phases, how long each may last, and how it ends.

Phases, and what ends them:

    HEAD      waiting for, or collecting, a request head
              → DECIDING (a claim or a connection is needed), EXCHANGE (neither is), LINGER (error)
    DECIDING  a trio task claims and connects; the client is not read
              → EXCHANGE, LINGER (nobody can answer)
    EXCHANGE  the request is with a backend; its body and the response stream, independently
              → HEAD (keep-alive), DECIDING (retry), LINGER (early end), spent (tunnel)
    LINGER    our last answer is out; what the client still sends is discarded for a while,
              so that a reset cannot destroy the answer on its way

What a request means is for `downstream.Downstream`.
"""

import enum
import socket
from typing import TYPE_CHECKING, Final

import trio

from meshlb.core.http.answers import answer
from meshlb.core.proxy_protocol import Ends
from meshlb.errors import DownstreamError, UpstreamError
from meshlb.net.reactor import READ
from meshlb.proxy.stream import Channel, Stream

if TYPE_CHECKING:
    from meshlb.core.route import Decision
    from meshlb.proxy.backend import Backend
    from meshlb.proxy.frontend import Frontend
    from meshlb.proxy.upstream import Upstream

LINGER_S: Final = 2.0
LINGER_BYTES_MAX: Final = 4 << 20
"""How long, and for how many bytes, a refused client is listened to after its answer."""

RETRY_AFTER_S: Final = 1
"""What a client is told to wait when no backend is available."""


class Phase(enum.IntEnum):
    """See the module's docstring."""

    HEAD = 0
    DECIDING = 1
    EXCHANGE = 2
    LINGER = 3


HEAD: Final[Phase] = Phase.HEAD
DECIDING: Final[Phase] = Phase.DECIDING
EXCHANGE: Final[Phase] = Phase.EXCHANGE
LINGER: Final[Phase] = Phase.LINGER
"""The phases as globals: looking one up in its class costs ten times as much."""


class Client(Stream):
    """What every HTTP client has, whatever it asks.

    Attributes:
        client: the client's address as text.
        ends: of the connection that a PROXY header told of; None: it is this one.
        method: of the request in hand; empty where none is understood.
        phase: see the module's docstring.
    """

    __slots__ = (
        "_awaits_continue",
        "_buffer",
        "_decision",
        "_ended",
        "_frontend",
        "_kept",
        "_phase_since",
        "_scope",
        "_uploading",
        "_upstream",
        "client",
        "ends",
        "method",
        "phase",
    )

    def __init__(self, frontend: "Frontend", sock: Channel, client: str, ends: Ends | None) -> None:
        """Own `sock`, a fresh connection from `client`."""
        super().__init__(frontend.reactor, sock)
        self.ends = ends
        self.client = client.encode()
        self.method = b""
        self.phase = HEAD
        self._frontend = frontend
        self._awaits_continue = False
        self._buffer = b""
        self._decision: Decision[Backend] | None = None
        self._ended = False
        self._kept: Upstream | None = None
        self._phase_since = self.progress_at
        self._scope: trio.CancelScope | None = None
        self._upstream: Upstream | None = None
        self._uploading = False
        self.check_at(self.progress_at + frontend.recheck_s)

    def upstream_failed(
        self, upstream: "Upstream", error: UpstreamError, *, unheard: bool = False
    ) -> None:
        """The backend cannot go on with the request in hand."""
        raise AssertionError("a client that has an upstream says what its failure means")

    def check_deadline(self, now: float) -> float | None:
        """Cut what makes no progress; see `TimeoutSettings` for the time-outs."""
        if self.phase is EXCHANGE and self._decision is not None:
            # A response may take longer than its session may be idle.
            self._frontend.router.renew(self._decision, now + self._frontend.table_ahead_s)
        if not self.closed and now >= self._due_at():
            self._expire()
        return None if self.closed else min(self._due_at(), now + self._frontend.recheck_s)

    def _due_at(self) -> float:
        timeouts = self._frontend.timeouts
        if self.phase is HEAD:
            if self.backlog or not self._buffer:
                return self.progress_at + timeouts.idle_s
            return self._phase_since + timeouts.head_s
        if self.phase is LINGER:
            if self.backlog:
                return max(self.progress_at, self._phase_since) + timeouts.idle_s
            return self._phase_since + LINGER_S
        upstream = self._upstream
        if self.phase is DECIDING or upstream is None:
            return float("inf")
        progress_at = max(self.progress_at, upstream.progress_at, self._phase_since)
        if self._is_client_due() or upstream.answering or self.backlog:
            return progress_at + timeouts.idle_s
        return progress_at + self._frontend.response_timeout_s

    def _expire(self) -> None:
        upstream = self._upstream
        if self.phase is HEAD:
            if self._buffer and not self.backlog:
                self.reject(DownstreamError(408, "the request head took too long"))
            else:
                self.close()
        elif self.phase is LINGER or upstream is None:
            self.close()
        elif upstream.answering or self.backlog:
            self.abort()
        elif self._is_client_due() and not upstream.backlog:
            self.reject(DownstreamError(408, "the request body made no progress"))
        else:
            self.upstream_failed(upstream, UpstreamError(504, "the backend did not answer in time"))

    def _is_client_due(self) -> bool:
        """Whether the client owes us a body, and does not wait to be asked for it."""
        return self._uploading and not self._awaits_continue

    def lost(self) -> None:
        """The client is gone, or its request can never be completed."""
        self.abort()

    # Endings

    def refuse(self, status: int) -> None:
        """An answer of our own; it always ends the connection."""
        frontend = self._frontend
        frontend.count_answer(status)
        self.send(
            answer(
                status,
                close=True,
                retry_after_s=RETRY_AFTER_S if status == 503 else None,
                head_only=self.method == b"HEAD",
            )
        )
        if not self.closed:
            self.linger()

    def reject(self, error: DownstreamError) -> None:
        """The request is at fault: answer, and let nothing that follows be taken for a request."""
        self._frontend.count_malformed()
        if self.phase is HEAD:
            self.method = b""
        answering = self._upstream is not None and self._upstream.answering
        self.drop_upstream()
        if answering:
            self.abort()
        else:
            self.refuse(error.status)

    def linger(self) -> None:
        """Nothing more will be said: close once the client has seen it all, or too long after."""
        self.phase = LINGER
        self._phase_since = self._reactor.now
        self._buffer = b""
        if not self._ended:
            self.watch_reading(True)
        if self.backlog:
            return
        if self._ended:
            self.close()
        else:
            self.shutdown_writing()
            self.check_at(self._phase_since + LINGER_S)

    def drop_upstream(self) -> None:
        """Give up on the backend of the request in hand."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.release(reusable=False)

    def keep(self, upstream: "Upstream") -> None:
        """Hold an upstream that was announced as this client's, for its next request alone."""
        self._drop_kept()
        if self.closed:
            upstream.close()
        else:
            self._kept = upstream

    def take_kept(self, backend: "Backend") -> "Upstream | None":
        """The upstream that `keep` was given, counted as in use, if it is one to `backend`."""
        upstream = self._kept
        if upstream is None or upstream.backend is not backend or not upstream.is_quiet():
            self._drop_kept()
            return None
        self._kept = None
        backend.occupy()
        return upstream

    def _drop_kept(self) -> None:
        upstream, self._kept = self._kept, None
        if upstream is not None:
            upstream.close()

    def drain(self) -> None:
        """The node is leaving: close now if nothing is in progress, else after the response."""
        if self.phase is HEAD and not self.backlog:
            self.on_event(READ)  # A request that has come in time is still answered.
        if self.phase is HEAD and not self._buffer and not self.backlog:
            self.close()

    def attach(self) -> None:
        """Go on after `detach`."""
        super().attach()
        self.check_at(self._reactor.now + self._frontend.recheck_s)

    def abandon(self) -> None:
        """Another process has it: give back what it held."""
        super().abandon()
        self._frontend.forget(self)
        self._drop_kept()

    @property
    def is_deciding(self) -> bool:
        """Whether the cluster, or a backend that is being connected to, has the next word."""
        return self.phase is DECIDING

    @property
    def may_move(self) -> bool:
        """Whether another process can go on with the connection: nothing is under way on it."""
        return self.is_between_requests and type(self._sock) is socket.socket

    @property
    def is_between_requests(self) -> bool:
        """Whether no request, and no part of an answer, is under way."""
        return self.phase is HEAD and not (self.closed or self.backlog or self._ended)

    @property
    def plain_sock(self) -> socket.socket:
        """The socket of one that `may_move`."""
        assert isinstance(self._sock, socket.socket)
        return self._sock

    @property
    def begun(self) -> bytes:
        """What has come of the next request."""
        return self._buffer

    def park(self) -> None:
        """Take up no further request; what has come of one stays."""
        if self.phase is HEAD:
            self.watch_reading(False)

    def cut(self) -> None:
        """The node stops: what is not finished must not look finished."""
        answering = self._upstream is not None and self._upstream.answering
        if answering or self.backlog:
            self.abort()
        elif self.phase in (DECIDING, EXCHANGE):
            self.refuse(503)
        self.close()

    def close(self) -> None:
        """Close, giving back whatever the exchange held."""
        if not self.closed:
            super().close()
            self._frontend.forget(self)
            self.drop_upstream()
            self._drop_kept()
            if self._scope is not None:
                self._scope.cancel()
