"""A client of a listener that expects a PROXY header: it is nobody until the header has said who.

Owns the time until then. The header is taken off the socket to the byte, so whatever follows it
(a TLS greeting, a request, plain bytes) is the successor's. A missing or malformed header ends the
connection, without an answer: only a proxy in front of this one could make use of it.
"""

import socket
from typing import TYPE_CHECKING

import structlog

from meshlb.core.proxy_protocol import (
    HEADER_BYTES_MAX,
    Ends,
    ProxyHeader,
    ProxyHeaderError,
    read_header,
)
from meshlb.net.reactor import READ
from meshlb.proxy.stream import Stream

if TYPE_CHECKING:
    from meshlb.proxy.frontend import Frontend

log = structlog.get_logger()


class Arrival(Stream):
    """One client of a `Frontend`, until its header has been read."""

    __slots__ = ("_begun", "_frontend", "_peer", "_plain")

    def __init__(self, frontend: "Frontend", sock: socket.socket, peer: str) -> None:
        """Own `sock`, a fresh connection from `peer`; it joins the reactor at once."""
        super().__init__(frontend.reactor, sock)
        self._frontend = frontend
        self._peer = peer
        self._plain = sock
        self._begun = b""
        self.check_at(self.progress_at + frontend.timeouts.head_s)
        self.open()

    def on_event(self, event: int) -> None:
        """Read on in the header."""
        if event & READ:
            self._read()
        else:
            self.abort()

    def check_deadline(self, now: float) -> float | None:
        """The header took too long."""
        if not self.closed:
            self._refuse("it did not come in time")
        return None

    def drain(self) -> None:
        """The node is leaving: whoever has come in time is still let in."""
        self._read()
        self.close()

    def _read(self) -> None:
        try:
            piece = self._plain.recv(HEADER_BYTES_MAX, socket.MSG_PEEK)
            if piece:
                self._take(piece)
            elif self._begun:
                self._refuse("it is cut off")
            else:
                self.close()  # Somebody looked whether the port is open.
        except BlockingIOError:
            return
        except OSError:
            self.abort()

    def _take(self, piece: bytes) -> None:
        """Go on with `piece`, which is still in the socket."""
        try:
            header = read_header(self._begun + piece)
        except ProxyHeaderError as error:
            self._refuse(str(error))
            return
        if header is None:
            self._begun += self._plain.recv(len(piece))
            return
        self._plain.recv(header.size_bytes - len(self._begun))
        self._give_way(header)

    def _give_way(self, header: ProxyHeader) -> None:
        """Leave the socket to whoever speaks with the client from now on."""
        self.spend()
        ends: Ends | None = header.ends
        self._frontend.admit(
            self._plain, ends.source.host if ends is not None else self._peer, ends
        )
        self._frontend.forget(self)

    def _refuse(self, reason: str) -> None:
        self._frontend.tally.proxy_headers_refused += 1
        log.info("no PROXY header", listener=self._frontend.name, reason=reason)
        self.abort()

    def close(self) -> None:
        """Close, and be no client any more."""
        if not self.closed:
            super().close()
            self._frontend.forget(self)
