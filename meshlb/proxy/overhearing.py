"""A client whose TLS is passed through: its first message says for whom it is meant.

Owns the time until the ClientHello is there, and the choice of the pool. What was read goes to the
backend first, so the handshake takes place between the two. Who does not begin with TLS is cut.
"""

import socket
from typing import TYPE_CHECKING

from meshlb.core.proxy_protocol import Ends
from meshlb.core.tls.client_hello import HELLO_BYTES_MAX, ClientHelloError, ClientHelloReader
from meshlb.net.reactor import READ
from meshlb.proxy.greeting import BROKEN_OFF, PLAIN, TIMED_OUT
from meshlb.proxy.stream import Stream

if TYPE_CHECKING:
    from meshlb.proxy.frontend import Frontend


class Overhearing(Stream):
    """One client of a `Frontend` with `sni`, until it has said a name, or that it has none."""

    __slots__ = ("_client", "_ends", "_frontend", "_hello")

    def __init__(
        self, frontend: "Frontend", sock: socket.socket, client: str, ends: Ends | None
    ) -> None:
        """Own `sock`, a connection from `client`; it joins the reactor at once."""
        super().__init__(frontend.reactor, sock)
        self._frontend = frontend
        self._client = client
        self._ends = ends
        self._hello = ClientHelloReader()
        self.check_at(self._reactor.now + frontend.timeouts.head_s)
        self.open()

    def on_event(self, event: int) -> None:
        """Read on."""
        if event & READ:
            self._read()
        else:
            self._fail(BROKEN_OFF)

    def check_deadline(self, now: float) -> float | None:
        """The ClientHello took too long."""
        if not self.closed:
            self._fail(TIMED_OUT)
        return None

    def drain(self) -> None:
        """The node is leaving: whoever has come in time is still let in."""
        self._read()
        self.close()

    def _read(self) -> None:
        try:
            piece = self._sock.recv(HELLO_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            self._fail(BROKEN_OFF)
            return
        if not piece and self._hello.taken:
            self._fail(BROKEN_OFF)
        elif not piece:
            self.close()  # Somebody looked whether the port is open.
        else:
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        try:
            if not self._hello.feed(piece):
                return
        except ClientHelloError as error:
            frontend = self._frontend
            frontend.handshakes.tell(frontend.name, str(error), self._reactor.now)
            self._fail(PLAIN)
            return
        self._give_way(self._hello.name)

    def _give_way(self, name: str | None) -> None:
        """Leave the connection to a passage to the pool that `name` leads to."""
        self.spend()
        frontend = self._frontend
        pool = frontend.routes.find(name) if name is not None else None
        early = bytes(self._hello.taken)
        frontend.pass_on(self._sock, self._client, self._ends, pool or frontend.pool, early)
        frontend.forget(self)

    def _fail(self, reason: str) -> None:
        self._frontend.tally.handshakes_failed[reason] += 1
        self.abort()

    def close(self) -> None:
        """Close, and be no client any more."""
        if not self.closed:
            super().close()
            self._frontend.forget(self)
