"""A client of a listener with TLS: it is not heard before the handshake is over.

Owns the time until then, in the reactor and without a task. A signature takes the processor longer
than hundreds of requests, so handshakes are bounded three times: in number, in time, and by the
reactor's ration in how many go a step ahead in one turn of it. Who speaks plain HTTP is told so;
whatever else fails ends the connection and is counted.
"""

import socket
import ssl
from typing import TYPE_CHECKING, Final

import structlog

from meshlb.core.proxy_protocol import Ends
from meshlb.errors import DownstreamError
from meshlb.net.reactor import READ, WRITE
from meshlb.net.tls_channel import TlsChannel, handshake_fault, was_broken_off
from meshlb.proxy.stream import Stream

if TYPE_CHECKING:
    from meshlb.net.tls_server import ServerTls
    from meshlb.proxy.frontend import Frontend

HANDSHAKES_MAX: Final = 1_000
"""Under way at a time at one listener; the oldest makes room for the newest."""

PLAIN, BROKEN_OFF, TIMED_OUT, CROWDED_OUT, REFUSED = FAILURES = (
    "plain-text",
    "broken-off",
    "timed-out",
    "crowded-out",
    "refused",
)
"""Why handshakes fail: no TLS is spoken; the client goes away, is too slow, or one of too many;
both sides find nothing to agree on, or the client's certificate or ours is not believed."""

TELL_EVERY_S: Final = 1.0
"""A listener logs a failure at most so often; all are counted."""

_HANDSHAKE_RECORD: Final = b"\x16"

log = structlog.get_logger()


class Handshakes:
    """Those of one listener that are under way."""

    def __init__(self) -> None:
        self._open: dict[Greeting, None] = {}
        self._may_tell_at = 0.0

    def enter(self, greeting: "Greeting") -> None:
        """One more; the oldest goes if they are too many."""
        if len(self._open) >= HANDSHAKES_MAX:
            next(iter(self._open)).fail(CROWDED_OUT)
        self._open[greeting] = None

    def leave(self, greeting: "Greeting") -> None:
        """It is over."""
        self._open.pop(greeting, None)

    def tell(self, listener: str, reason: str, now: float) -> None:
        """Log a failure, unless another one was logged just now."""
        if now >= self._may_tell_at:
            self._may_tell_at = now + TELL_EVERY_S
            log.info("no TLS handshake", listener=listener, reason=reason)


class Greeting(Stream):
    """One client of a `Frontend`, until both sides have agreed."""

    __slots__ = (
        "_awaits_request",
        "_channel",
        "_client",
        "_ends",
        "_frontend",
        "_plain",
        "_tls",
    )

    def __init__(
        self,
        frontend: "Frontend",
        tls: "ServerTls",
        sock: socket.socket,
        client: str,
        ends: Ends | None,
    ) -> None:
        """Own `sock`, a connection from `client`; it joins the reactor at once."""
        super().__init__(frontend.reactor, sock)
        self._frontend = frontend
        self._tls = tls
        self._plain = sock
        self._client = client
        self._ends = ends
        self._awaits_request = False
        self._channel: TlsChannel | None = None
        frontend.handshakes.enter(self)
        self.check_at(self._reactor.now + frontend.timeouts.head_s)
        self.open(rationed=True)

    def on_event(self, event: int) -> None:
        """Go a step ahead."""
        if event & (READ | WRITE):
            self._step()
        else:
            self.fail(BROKEN_OFF)

    def check_deadline(self, now: float) -> float | None:
        """The handshake took too long."""
        if not self.closed:
            self.fail(TIMED_OUT)
        return None

    def drain(self) -> None:
        """The node is leaving: whoever has come in time is still let in, to ask once."""

    def fail(self, reason: str) -> None:
        """End it; `reason` is one of `FAILURES`."""
        self._frontend.tally.handshakes_failed[reason] += 1
        self.close()

    def _step(self) -> None:
        try:
            if self._channel is None and not self._begin():
                return
            assert self._channel is not None
            self._channel.do_handshake()
        except (ssl.SSLWantReadError, BlockingIOError):
            self._wait_for(READ)
        except ssl.SSLWantWriteError:
            self._wait_for(WRITE)
        except (OSError, ValueError) as error:
            self._failed(error)
        else:
            self._agreed(self._channel)

    def _begin(self) -> bool:
        """Look at the first byte, which stays where it is; False: it is no handshake's."""
        first = self._plain.recv(1, socket.MSG_PEEK)
        if not first:
            self.close()  # Somebody looked whether the port is open.
        elif first == _HANDSHAKE_RECORD:
            self._sock = self._channel = self._tls.wrap(self._plain)
            return True
        elif first.isalpha() and self._frontend.settings.protocol == "http":
            self._answer_plainly()
        else:
            self.fail(PLAIN)
        return False

    def _wait_for(self, interest: int) -> None:
        if interest != self._interest:
            self._interest = interest
            self._reactor.watch(self.fd, interest)

    def _failed(self, error: OSError | ValueError) -> None:
        if isinstance(error, ValueError) or was_broken_off(error):
            self.fail(BROKEN_OFF)
            return
        frontend = self._frontend
        frontend.handshakes.tell(frontend.name, handshake_fault(error), self._reactor.now)
        self.fail(REFUSED)

    def _agreed(self, channel: TlsChannel) -> None:
        if self._frontend.draining and not self._awaits_request:
            # Who is given over now and has not asked yet is sent away.
            self._awaits_request = True
            self._wait_for(READ)
        else:
            self._give_way(channel)

    def _give_way(self, channel: TlsChannel) -> None:
        """Leave the connection to whoever speaks with the client from now on."""
        frontend = self._frontend
        frontend.tally.handshakes += 1
        frontend.tally.handshakes_resumed += bool(channel.session_reused)
        self._spend()
        frontend.serve(channel, self._client, self._ends)
        frontend.forget(self)

    def _answer_plainly(self) -> None:
        frontend = self._frontend
        frontend.tally.handshakes_failed[PLAIN] += 1
        self._spend()
        error = DownstreamError(400, "plain HTTP where TLS is spoken")
        frontend.refuse(self._plain, self._client, self._ends, error)
        frontend.forget(self)

    def _spend(self) -> None:
        self.spend()
        self._frontend.handshakes.leave(self)

    def close(self) -> None:
        """Close, and be no client any more."""
        if not self.closed:
            super().close()
            self._frontend.handshakes.leave(self)
            self._frontend.forget(self)
