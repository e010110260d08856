"""A client of a TCP listener: decided once, then a tunnel.

Its bytes are not read before the backend is connected, so nothing has to be buffered.
"""

from typing import TYPE_CHECKING

import structlog
import trio

from meshlb.core.proxy_protocol import Ends
from meshlb.errors import UpstreamError
from meshlb.net.last_resort import end_failed
from meshlb.proxy.stream import Channel, Stream

if TYPE_CHECKING:
    from meshlb.proxy.frontend import Frontend
    from meshlb.proxy.pool import Pool
    from meshlb.proxy.upstream import Upstream

log = structlog.get_logger()


class Passage(Stream):
    """One client of a TCP `Frontend`, until its tunnel starts."""

    __slots__ = ("_client", "_early", "_ends", "_frontend", "_pool", "_scope", "_upstream")

    def __init__(
        self,
        frontend: "Frontend",
        sock: Channel,
        client: str,
        ends: Ends | None,
        pool: "Pool",
        early: bytes,
    ) -> None:
        """Own `sock`; start deciding at once.

        Args:
            frontend: whose client it is.
            sock: its connection.
            client: the client's address.
            ends: of the connection that a PROXY header told of.
            pool: who answers.
            early: what the client has sent already.
        """
        super().__init__(frontend.reactor, sock)
        self._ends = ends
        self._pool = pool
        self._early = early
        self._client = client.encode()
        self._frontend = frontend
        self._scope = trio.CancelScope()
        self._upstream: Upstream | None = None
        self.open(0)
        frontend.nursery.start_soon(self._decide)

    def on_event(self, event: int) -> None:
        """Nothing is read yet, so this is the client breaking off."""
        self.abort()

    @property
    def is_deciding(self) -> bool:
        """It does nothing else."""
        return True

    async def _decide(self) -> None:
        try:
            with self._scope:
                await self._connect()
        except Exception:
            end_failed(self)

    async def _connect(self) -> None:
        frontend = self._frontend
        router, dispatcher = self._pool.router, self._pool.dispatcher
        decision = router.route(None, self._client, self._reactor.now + frontend.table_ahead_s)
        try:
            upstream = await dispatcher.obtain(
                decision,
                fresh=True,
                announcement=dispatcher.announcement(self.fd, self._ends),
            )
        except UpstreamError as error:
            log.info("no backend for a connection", listener=frontend.name, reason=str(error))
            self.abort()
            return
        if self.closed:
            upstream.release(reusable=False)
            return
        if self._early:
            upstream.send(self._early)
        self._upstream = upstream
        frontend.tunnel(self, upstream, upstream.backend, decision)

    def close(self) -> None:
        """Close, and stop deciding."""
        if not self.closed:
            super().close()
            self._frontend.forget(self)
            if self._upstream is not None:
                self._upstream.release(reusable=False)
            self._scope.cancel()
