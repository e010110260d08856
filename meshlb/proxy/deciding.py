"""A client whose request is understood, until a backend has it: claims, connections, retries.

Owns the phase DECIDING of `client`. A request that follows a pin, and a first claim, cost no task:
the dispatcher calls back once the cluster has decided. A connection that has to be opened, and a
claim that has to be repeated, do. What the request and its answer look like is for `downstream`.
"""

from typing import TYPE_CHECKING, Final

import trio

from meshlb.core.http.request import RequestHead
from meshlb.core.proxy_protocol import Ends
from meshlb.errors import UpstreamError
from meshlb.net.last_resort import end_failed
from meshlb.proxy.client import DECIDING, Client
from meshlb.proxy.stream import Channel
from meshlb.proxy.upstream import Upstream

if TYPE_CHECKING:
    from meshlb.core.route import Decision
    from meshlb.proxy.backend import Backend
    from meshlb.proxy.frontend import Frontend

REPEATABLE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
"""Idempotent (RFC 9110 9.2.2): may be sent again when a reused connection breaks."""


class Deciding(Client):
    """What finds a backend for a request."""

    __slots__ = ("_dispatcher", "_keep_alive", "_request")

    def __init__(self, frontend: "Frontend", sock: Channel, client: str, ends: Ends | None) -> None:
        """Own `sock`, a fresh connection from `client`."""
        super().__init__(frontend, sock, client, ends)
        self._dispatcher = frontend.dispatcher
        self._keep_alive = True
        self._request: RequestHead | None = None

    def forward(self, upstream: Upstream) -> None:
        """Send the request to a connected upstream."""
        raise AssertionError("a client that decides knows how to forward")

    def decide(self, decision: "Decision[Backend]", request: RequestHead) -> None:
        """Forward `request` at once where nothing has to be awaited."""
        self._decision = decision
        # What is decided by one configuration is not carried out by another one.
        self._dispatcher = self._frontend.dispatcher
        if decision.proposal is None or request.websocket:
            self._dispatch(decision, request, has_waited=False)
        else:
            self.phase = DECIDING
            self._dispatcher.claim_soon(decision, self)

    def claimed(self) -> None:
        """The cluster has decided."""
        decision, request = self._decision, self._request
        if not self.closed and decision is not None and request is not None:
            self._dispatch(decision, request, has_waited=True)

    def _dispatch(
        self, decision: "Decision[Backend]", request: RequestHead, *, has_waited: bool
    ) -> None:
        backend = decision.backend
        if backend is not None and not request.websocket:
            if self._dispatcher.announces:
                upstream = self.take_kept(backend)
            else:
                upstream = backend.take_idle(
                    must_be_quiet=has_waited
                    or self._uploading
                    or request.method not in REPEATABLE_METHODS
                )
            if upstream is not None:
                self.forward(upstream)
                return
        elif backend is None and decision.proposal is None:
            self.refuse(503)
            return
        if request.websocket:
            # Frames follow: where the backend refuses they must not be taken for a request.
            self._keep_alive = False
        self.decide_in_task(fresh=request.websocket)

    def decide_in_task(self, *, fresh: bool) -> None:
        """Obtain a backend, however long that takes; `fresh`: on a new connection."""
        self.phase = DECIDING
        self.watch_reading(False)
        self._frontend.nursery.start_soon(self._decide_in_task, fresh)

    async def _decide_in_task(self, fresh: bool) -> None:
        try:
            with trio.CancelScope() as self._scope:
                await self._obtain(fresh=fresh)
        except Exception:
            end_failed(self)
        self._scope = None

    async def _obtain(self, *, fresh: bool) -> None:
        decision = self._decision
        assert decision is not None
        try:
            upstream = await self._dispatcher.obtain(
                decision,
                fresh=fresh,
                announcement=self._dispatcher.announcement(self.fd, self.ends),
            )
        except UpstreamError as error:
            if not self.closed:
                self.refuse(error.status)
            return
        if self.closed:
            upstream.release(reusable=True)
        else:
            self.forward(upstream)
