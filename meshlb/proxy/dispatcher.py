"""Gets a connected upstream for a decision: claims, connects, and tries elsewhere on failure.

The only part of the data plane that waits. A first claim is waited for without a task, by far the
most frequent case; everything else runs in the trio task of one connection, and is done when the
reactor can take over.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import structlog

from meshlb.config.schema import PoolSettings
from meshlb.core.http.response import ResponseParser
from meshlb.core.proxy_protocol import Ends, ProxyVersion, write_header, write_own_header
from meshlb.core.route import Decision, Router
from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.table import StickTable
from meshlb.errors import NoQuorumError, UpstreamError
from meshlb.model import BackendName, PoolName
from meshlb.net.last_resort import Abortable, end_failed
from meshlb.net.reactor import Reactor
from meshlb.net.sockets import ends_of
from meshlb.net.tls_client import ClientTls, connect
from meshlb.proxy.backend import Backend
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.upstream import Upstream

ATTEMPTS_MAX = 4
"""Backends tried for one request; it bounds what a request can cost when all of them fail."""

RESPONSE_HEAD_BYTES_MAX = 128 << 10
"""A backend's response head; a larger one is answered with 502."""

log = structlog.get_logger()


class Claimant(Abortable, Protocol):
    """Who waits for the end of a claim; it is ended if anything about that fails."""

    def claimed(self) -> None:
        """The claim is over."""
        ...


class Dispatcher:
    """Of one pool.

    Attributes:
        announces: by which PROXY header, if any, a backend is told whom a connection is for.
        doubt: told of each backend that could not be reached.
    """

    def __init__(
        self,
        pool: PoolName,
        *,
        reactor: Reactor,
        router: Router[Backend],
        table: StickTable,
        table_now: Callable[[], float],
        counters: ProxyCounters,
        settings: PoolSettings,
        tls: ClientTls | None,
        doubt: Callable[[Backend], None],
    ) -> None:
        """Wire a dispatcher; it owns nothing."""
        self.announces: ProxyVersion | None = settings.proxy_protocol
        self._pool = pool
        self._reactor = reactor
        self._router = router
        self._table = table
        self._table_now = table_now
        self._parser = ResponseParser(head_bytes_max=RESPONSE_HEAD_BYTES_MAX)
        self._counters = counters
        self._connect_timeout_s = settings.connect_timeout_s
        self._tls = tls
        self.doubt = doubt

    def announcement(self, fd: int, ends: Ends | None) -> bytes:
        """What a connection to a backend begins with, where it is for one client alone.

        Args:
            fd: the client's connection.
            ends: what it was told in front of that connection about another one.
        """
        if self.announces is None:
            return b""
        try:
            return write_header(self.announces, ends or Ends(*ends_of(fd)))
        except OSError:
            return write_own_header(self.announces)  # The client has gone meanwhile.

    def claim_soon(self, decision: Decision[Backend], claimant: Claimant) -> None:
        """Have the cluster decide, without a task; then `claimant.claimed` is called.

        By then `decision` has a backend, or a second claim to make because this node cannot
        follow the pin, or neither: nobody is left, or this node may not begin a session.
        """
        assert decision.proposal is not None
        self._table.claim_soon(decision.proposal, partial(self._claimed, decision, claimant))

    def _claimed(
        self,
        decision: Decision[Backend],
        claimant: Claimant,
        outcome: Pin | NoQuorumError,
    ) -> None:
        self._reactor.catch_up()
        try:
            if isinstance(outcome, NoQuorumError):
                decision.proposal = None
            else:
                self._router.settle(decision, outcome, self._table_now())
                if decision.backend is None:
                    self._router.redirect(decision, ())
            claimant.claimed()
        except Exception:
            end_failed(claimant)

    async def obtain(
        self, decision: Decision[Backend], *, fresh: bool, announcement: bytes = b""
    ) -> Upstream:
        """A connection to the backend of `decision`, or to the one that it moves to.

        Args:
            decision: updated in place: its backend, pin and cookie are true afterwards.
            fresh: open a new connection even if an idle one is there.
            announcement: what a new connection begins with, which then serves this client alone.

        Raises:
            UpstreamError: status 503 where no backend is left to try, this node has run out of
                descriptors, or it may not begin a session (`mode = "strict"`); else that of the
                last failure.
        """
        try:
            return await self._obtain(decision, fresh, announcement)
        finally:
            self._reactor.catch_up()

    async def _obtain(
        self, decision: Decision[Backend], fresh: bool, announcement: bytes
    ) -> Upstream:
        failed: dict[BackendName, UpstreamError] = {}
        for _ in range(ATTEMPTS_MAX):
            if decision.proposal is not None:
                try:
                    await self._claim(decision, failed)
                except NoQuorumError as error:
                    raise UpstreamError(503, str(error)) from error
            backend = decision.backend
            if backend is None:
                break
            upstream = None if fresh or announcement else backend.take_idle(must_be_quiet=True)
            if upstream is not None:
                return upstream
            try:
                return await self._connect(backend, announcement)
            except UpstreamError as error:
                if error.status == 503:
                    raise  # It is this node that has run out of something.
                failed[backend.name] = error
                self.doubt(backend)
                self._counters.redispatches += 1
                self._router.redirect(decision, failed)
        if failed:
            raise next(reversed(failed.values()))
        raise UpstreamError(503, "no backend is available")

    async def _claim(
        self, decision: Decision[Backend], failed: Mapping[BackendName, UpstreamError]
    ) -> None:
        """Let the cluster decide; go round a pin that this node cannot follow."""
        proposal = decision.proposal
        assert proposal is not None
        pin = await self._table.claim(proposal)
        self._router.settle(decision, pin, self._table_now())
        if decision.backend is not None and decision.backend.name not in failed:
            return
        # The agreed backend is unusable from here; ask once more to move the key, and if the
        # cluster insists (a minority may not move pins), serve this request from elsewhere.
        self._router.redirect(decision, failed)
        again = decision.proposal
        if again is None:
            return
        pin = await self._table.claim(again)
        self._router.settle(decision, pin, self._table_now())
        if decision.backend is None or decision.backend.name in failed:
            self._router.without_pin(decision, failed)

    async def _connect(self, backend: Backend, announcement: bytes) -> Upstream:
        self._counters.connects += 1
        try:
            sock = await connect(
                backend.address, self._tls, timeout_s=self._connect_timeout_s, first=announcement
            )
        except UpstreamError as error:
            self._counters.connect_failures += error.status != 503
            log.info("no connection", pool=self._pool, backend=backend.name, reason=str(error))
            raise
        try:
            upstream = Upstream(
                self._reactor, sock, backend, self._parser, announced=bool(announcement)
            )
        except Exception:
            sock.close()
            raise
        backend.occupy()
        return upstream
