"""A connection to a backend: sends a request on, and streams its response to the client.

One `Upstream` serves one exchange at a time; between two of them it waits in its backend's idle
list. It reads the response head, lets its `Downstream` write it, then passes the body on as it
comes. It decides nothing: what a failure means is for the `Downstream` to say.

Its states: idle (`client` is None) → head (`answering` is False) → body → idle or closed.
"""

import socket
from typing import TYPE_CHECKING, Final

from meshlb.core.http.body import BodyError, ChunkedReader
from meshlb.core.http.fields import backend_fault
from meshlb.core.http.framing import CHUNKED, CLOSE, LENGTH, NONE
from meshlb.core.http.head import find_head_end
from meshlb.core.http.response import SWITCHING_PROTOCOLS, ResponseHead, ResponseParser
from meshlb.errors import UpstreamError
from meshlb.net.reactor import BROKEN, READ, WRITE, Reactor
from meshlb.net.tls_channel import TlsChannel
from meshlb.proxy.backend import IDLE_CONNECTIONS_MAX, Backend
from meshlb.proxy.stream import READ_BYTES, Channel, Stream

if TYPE_CHECKING:
    from meshlb.proxy.downstream import Downstream

INTERIM_RESPONSES_MAX: Final = 16
"""1xx heads that a backend may send before its response."""


class Upstream(Stream):
    """The proxy's end of a connection to `backend`.

    Attributes:
        client: who gets the response; None while idle.
        announced: a PROXY header has said whose it is, so it serves this one client alone.
        reused: it has served an exchange before, so its backend may have closed it meanwhile.
        answering: the head of the response has arrived.
    """

    __slots__ = (
        "_begun_in",
        "_buffer",
        "_chunks",
        "_interim_count",
        "_kind",
        "_last_read_bytes",
        "_left_bytes",
        "_parser",
        "_reusable",
        "announced",
        "answering",
        "backend",
        "client",
        "reused",
    )

    def __init__(
        self,
        reactor: Reactor,
        sock: Channel,
        backend: Backend,
        parser: ResponseParser,
        *,
        announced: bool = False,
    ) -> None:
        """Own `sock`, which is connected; the stream joins the reactor at once."""
        super().__init__(reactor, sock)
        self.backend = backend
        self.announced = announced
        self.client: Downstream | None = None
        self.reused = False
        self.answering = False
        self._parser = parser
        self._begun_in = 0
        self._last_read_bytes = 0
        self._buffer = b""
        self._chunks: ChunkedReader | None = None
        self._kind = NONE
        self._left_bytes = 0
        self._reusable = False
        self._interim_count = 0
        self.open()

    @property
    def states_end(self) -> bool:
        """Whether the response under way says where it ends, so that a cut can be seen."""
        return self._kind in (LENGTH, CHUNKED)

    def begin(self, client: "Downstream", head: bytes) -> None:
        """Send a request head for `client`, who feeds the body with `send` afterwards."""
        self.client = client
        self._begun_in = self._reactor.batch
        self.answering = False
        self._interim_count = 0
        self._buffer = b""
        self.send(head)

    def is_quiet(self) -> bool:
        """Whether an idle connection is still open as far as the kernel knows.

        What TLS itself has sent meanwhile, such as tickets, does not count. Where the answer is
        no, the connection is of no more use.
        """
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def on_event(self, event: int) -> None:
        """Flush what waits, then read once."""
        if event & WRITE:
            self.flush()
            if self.closed:
                return
        if event & READ or (event & BROKEN and self._interest & READ):
            self._read()
        elif event & BROKEN:
            self.mute()

    def on_drained(self) -> None:
        """The request body may flow again."""
        if self.client is not None:
            self.client.resume_upload()

    def on_broken(self) -> None:
        """A write failed; the backend may have answered before it closed, so reading goes on."""
        self.stop_writing()
        if self.client is not None:
            self.client.stop_upload()

    def abort(self) -> None:
        """The last resort: the exchange in hand ends with the connection."""
        if self.client is not None:
            self.client.abort()
        elif not self.closed:
            self._leave_idle()

    def _read(self) -> None:
        client = self.client
        try:
            chunk = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if client is None:
                self._leave_idle()
            else:
                failure = UpstreamError(502, f"the backend broke off: {error}")
                client.upstream_failed(self, failure, unheard=self._is_unheard())
            return
        if client is None:
            self._leave_idle()
            return
        self.progress_at = self._reactor.now
        self._last_read_bytes = len(chunk)
        try:
            if not chunk:
                self._end(client)
            elif self.answering:
                self._pass_body(client, chunk)
            else:
                self._pass_head(client, chunk)
        except UpstreamError as error:
            client.upstream_failed(self, error, unheard=not chunk and self._is_unheard())

    def _is_unheard(self) -> bool:
        """Whether no byte has come in answer to the request."""
        return not (self.answering or self._buffer or self._interim_count)

    def _leave_idle(self) -> None:
        """The backend closed an idle connection, or spoke out of turn."""
        if self in self.backend.idle:
            self.backend.idle.remove(self)
        self.close()

    def _end(self, client: "Downstream") -> None:
        """The backend has closed its side."""
        if self.answering and self._kind is CLOSE and not _was_cut(self._sock):
            client.response_ended(self, reusable=False)
        else:
            raise UpstreamError(502, "the backend closed before the end of its response")

    def _pass_head(self, client: "Downstream", chunk: bytes) -> None:
        """Collect the head; interim responses go on at once."""
        if self._begun_in == self._reactor.batch:
            # It was here before the request was sent, so it is no answer to it.
            out_of_turn = UpstreamError(502, "the backend spoke out of turn")
            client.upstream_failed(self, out_of_turn, unheard=True)
            return
        scanned = len(self._buffer)
        if scanned:
            chunk = self._buffer + chunk
        while True:
            end = find_head_end(
                chunk, limit=self._parser.head_bytes_max, scanned=scanned, fault=backend_fault
            )
            scanned = 0
            if end < 0:
                self._buffer = chunk
                return
            rest = chunk[end:]
            response = self._parser.parse(chunk[:end] if rest else chunk, method=client.method)
            if response.status >= 200 or response.status == SWITCHING_PROTOCOLS:
                break
            self._interim_count += 1
            if self._interim_count > INTERIM_RESPONSES_MAX:
                raise UpstreamError(502, "too many interim responses")
            client.interim(response)
            if client.closed:
                return
            chunk = rest
        self._buffer = b""
        if response.status == SWITCHING_PROTOCOLS:
            client.switch(self, response, rest)
            return
        self.answering = True
        self._answer(client, response, rest)

    def _answer(self, client: "Downstream", response: ResponseHead, rest: bytes) -> None:
        self._kind = kind = response.body.kind
        self._reusable = response.keep_alive
        head = client.compose(response)
        if kind is NONE:
            if rest:
                self._reusable = False
            client.send(head)
            client.response_ended(self, reusable=self._reusable)
            return
        if kind is LENGTH:
            self._left_bytes = response.body.length
        elif kind is CHUNKED:
            self._chunks = ChunkedReader(decode=client.wants_plain_body)
        self._pass_body(client, rest, head)

    def _pass_body(self, client: "Downstream", chunk: bytes, head: bytes = b"") -> None:
        """Pass on what belongs to the body, behind `head`; note its end."""
        kind = self._kind
        ended = False
        if kind is LENGTH:
            left = self._left_bytes - len(chunk)
            if left < 0:
                chunk = chunk[:left]
                self._reusable = False
            ended = left <= 0
            self._left_bytes = left
        elif kind is CHUNKED and self._chunks is not None:
            try:
                consumed, ended = self._chunks.feed(chunk)
            except BodyError as error:
                raise UpstreamError(502, f"invalid response: {error}") from error
            if consumed < len(chunk):
                self._reusable = False
                chunk = chunk[:consumed]
            if client.wants_plain_body:
                chunk = self._chunks.payload()
        flowing = client.send(head + chunk if head else chunk)
        if ended:
            client.response_ended(self, reusable=self._reusable)
        elif not flowing and not client.closed:
            self.watch_reading(False)

    def release(self, *, reusable: bool) -> None:
        """The exchange is over: wait for the next one, or close."""
        client, self.client = self.client, None
        self._chunks = None
        backend = self.backend
        backend.vacate()
        if (
            not reusable
            or self.closed
            or (self._last_read_bytes >= READ_BYTES and not self.is_quiet())
            or self.backlog
            or not backend.takes_pinned
            or len(backend.idle) >= IDLE_CONNECTIONS_MAX
        ):
            self.close()
            return
        self.reused = True
        self.watch_reading(True)
        if not self.announced:
            backend.idle.append(self)
        elif client is not None:
            client.keep(self)
        else:
            self.close()


def _was_cut(channel: Channel) -> bool:
    """Whether the end could be somebody else's word than the backend's."""
    return isinstance(channel, TlsChannel) and channel.was_cut
