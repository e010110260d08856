"""One client's exchanges: its requests are decided and forwarded, its responses written.

The phases, time-outs and endings of the connection are `client.Client`'s; here is what happens
between a head and the end of its response. Requests that a client pipelines wait in the buffer
until the response before them is out.
"""

from typing import TYPE_CHECKING, Final

from meshlb.core.http.body import BodyError, ChunkedReader
from meshlb.core.http.framing import CHUNKED, CLOSE, NONE
from meshlb.core.http.head import find_head_end
from meshlb.core.http.request import RequestHead
from meshlb.core.http.response import ResponseHead
from meshlb.core.proxy_protocol import Ends
from meshlb.core.sticky.cookie import set_cookie_line
from meshlb.errors import DownstreamError, UpstreamError
from meshlb.net.reactor import BROKEN, READ, WRITE
from meshlb.proxy.client import EXCHANGE, HEAD, LINGER, LINGER_BYTES_MAX
from meshlb.proxy.deciding import REPEATABLE_METHODS, Deciding
from meshlb.proxy.stream import READ_BYTES, Channel
from meshlb.proxy.upstream import Upstream

if TYPE_CHECKING:
    from meshlb.proxy.frontend import Frontend

CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
"""How a response head ends its fields where the body comes in chunks."""


class Downstream(Deciding):
    """One client of an HTTP `Frontend`.

    Attributes:
        wants_plain_body: the client speaks HTTP/1.0 and must not see chunks.
    """

    __slots__ = (
        "_chunks",
        "_left_bytes",
        "_linger_bytes",
        "_sent_head",
        "_sent_request",
        "wants_plain_body",
    )

    def __init__(self, frontend: "Frontend", sock: Channel, client: str, ends: Ends | None) -> None:
        """Own `sock`, a fresh connection from `client`; it joins the reactor at once."""
        super().__init__(frontend, sock, client, ends)
        self.wants_plain_body = False
        self._chunks: ChunkedReader | None = None
        self._left_bytes = 0
        self._linger_bytes = 0
        self._sent_head = b""
        self._sent_request: RequestHead | None = None
        self.open()

    # What the reactor calls

    def on_event(self, event: int) -> None:
        """Flush what waits, then read once."""
        if event & WRITE:
            self.flush()
            if self.closed:
                return
        if event & READ:
            self._read()
        elif event & BROKEN:
            self.lost()

    def on_drained(self) -> None:
        """The client has taken everything: the response flows on, or the next request may come."""
        if self._upstream is not None:
            self._upstream.watch_reading(True)
        elif self.phase is HEAD:
            self._next_request()
        elif self.phase is LINGER:
            self.linger()

    def on_broken(self) -> None:
        """The client is gone."""
        self.lost()

    # Reading the client

    def _read(self) -> None:
        try:
            chunk = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.lost()
            return
        if not chunk:
            self._end()
            return
        self.progress_at = self._reactor.now
        if self.phase is HEAD:
            self._collect_head(chunk)
        elif self.phase is EXCHANGE and self._uploading:
            self._pass_upload(chunk)
        elif self.phase is LINGER:
            self._linger_bytes += len(chunk)
            if self._linger_bytes > LINGER_BYTES_MAX:
                self.close()
        else:
            self._buffer += chunk
            self.watch_reading(False)

    def _end(self) -> None:
        """The client has sent its FIN; it may still read."""
        self._ended = True
        if self.phase in (HEAD, LINGER) and not self.backlog:
            self.close()
            return
        self.watch_reading(False)
        if self._uploading and self.phase is not LINGER:
            self.lost()

    def _collect_head(self, chunk: bytes) -> None:
        scanned = len(self._buffer)
        if scanned:
            chunk = self._buffer + chunk
        else:
            self._phase_since = self._reactor.now
        parser = self._frontend.parser
        try:
            request = None if scanned else parser.remembered(chunk)
            if request is None:
                end = find_head_end(chunk, limit=self._frontend.head_bytes_max, scanned=scanned)
                if end < 0:
                    self._buffer = chunk
                    return
                self._buffer = chunk[end:]
                request = parser.parse(chunk[:end])
            self._begin(request)
        except DownstreamError as error:
            self.reject(error)

    def _begin(self, request: RequestHead) -> None:
        """A whole head is here: decide, and forward at once where nothing has to be awaited."""
        frontend = self._frontend
        self._request = request
        self.method = request.method
        self.wants_plain_body = request.minor == 0
        self._keep_alive = request.keep_alive
        kind = request.body.kind
        self._uploading = kind is not NONE
        if self._uploading:
            self._awaits_continue = request.expect_continue
            self._left_bytes = request.body.length
            self._chunks = ChunkedReader() if kind is CHUNKED else None
        if request.is_for_us:
            self.refuse(200)
            return
        client = self.client
        if request.forwarded:
            client = frontend.forwarding.origin(client, request)
        decision = frontend.router.route(
            request, client, self._reactor.now + frontend.table_ahead_s
        )
        if decision.minted:
            frontend.counters.pins_new += 1
        elif decision.pin is not None:
            frontend.counters.pins_hit += 1
        self.decide(decision, request)

    # The request on its way

    def forward(self, upstream: Upstream) -> None:
        """Send the head, and what has come of the body, to a connected upstream."""
        request = self._request
        assert request is not None
        self._upstream = upstream
        frontend = self._frontend
        if request is not self._sent_request:
            # A client that polls sends the same head again, and so do we.
            self._sent_request = request
            self._sent_head = b"%b%b%b%b\r\n" % (
                request.line,
                request.forward,
                frontend.forwarding.lines(self.client, request),
                request.upgrade_forward,
            )
        self.phase = EXCHANGE
        self._phase_since = self._reactor.now
        upstream.begin(self, self._sent_head)
        if self._uploading and self._buffer:
            chunk, self._buffer = self._buffer, b""
            self._pass_upload(chunk)
        elif not self._ended:
            self.watch_reading(not self._buffer)

    def _pass_upload(self, chunk: bytes) -> None:
        upstream = self._upstream
        assert upstream is not None
        self._awaits_continue = False
        try:
            if self._chunks is None:
                consumed = min(len(chunk), self._left_bytes)
                self._left_bytes -= consumed
                self._uploading = self._left_bytes > 0
            else:
                consumed, ended = self._chunks.feed(chunk)
                self._uploading = not ended
        except BodyError as error:
            self.reject(DownstreamError(400, str(error)))
            return
        self._buffer = chunk[consumed:]
        self._phase_since = self._reactor.now
        flowing = upstream.send(chunk[:consumed] if self._buffer else chunk)
        if not self._ended:
            self.watch_reading(flowing and not self._buffer)

    def resume_upload(self) -> None:
        """The backend takes more of the body."""
        if self._uploading and not self._ended:
            self.watch_reading(True)

    def stop_upload(self) -> None:
        """The backend will not take the rest of the body; it may be answering early."""
        if self._uploading:
            self.watch_reading(False)
            self._keep_alive = False

    # The response on its way

    def interim(self, response: ResponseHead) -> None:
        """Pass a 1xx head on; HTTP/1.0 knows none (RFC 9110 15.2)."""
        self._awaits_continue = False
        if not self.wants_plain_body:
            self.send(b"%b%b\r\n" % (response.line, response.forward))

    def compose(self, response: ResponseHead) -> bytes:
        """The head of the response as this client gets it."""
        frontend = self._frontend
        frontend.tally.answered[response.status // 100] += 1
        if self._uploading or frontend.draining or response.body.kind is CLOSE:
            self._keep_alive = False
        if self.wants_plain_body:
            return self._compose_plainly(response)
        cookie = self._cookie_line()
        if self._keep_alive and not cookie:
            return response.kept
        tail = b"\r\n" if self._keep_alive else b"Connection: close\r\n\r\n"
        return b"%b%b%b%b" % (response.line, response.forward, cookie, tail)

    def _compose_plainly(self, response: ResponseHead) -> bytes:
        """For a client of HTTP/1.0, who knows no chunks and has to be told of keep-alive."""
        forward = response.forward
        if forward.endswith(CHUNKED_LINE):
            forward = forward[: -len(CHUNKED_LINE)]
            self._keep_alive = self._keep_alive and response.body.kind is not CHUNKED
        option = b"keep-alive" if self._keep_alive else b"close"
        return b"%b%b%bConnection: %b\r\n\r\n" % (
            response.line,
            forward,
            self._cookie_line(),
            option,
        )

    def _cookie_line(self) -> bytes:
        decision = self._decision
        if decision is None or decision.cookie is None or decision.rule is None:
            return b""
        return set_cookie_line(decision.rule.name, decision.cookie, secure=self._frontend.secure)

    def response_ended(self, upstream: Upstream, *, reusable: bool) -> None:
        """The response is complete; go on with the next request where both sides can."""
        if self.closed:  # By the last write; the upstream has been given back.
            return
        self._upstream = None
        early = self._uploading
        upstream.release(reusable=reusable and not early)
        if not self._keep_alive or early:
            self._ended = self._ended or self._has_said_all()
            self.linger()
            return
        self.phase = HEAD
        self._phase_since = self.progress_at = self._reactor.now
        if self.backlog:
            # A client that does not take its responses gets no further ones.
            self.watch_reading(False)
        else:
            self._next_request()

    def _has_said_all(self) -> bool:
        """Whether nothing can follow, so that a close does not reset the answer on its way."""
        request = self._request
        if request is None or request.keep_alive or self._buffer:
            return False
        return request.body.kind is NONE

    def _next_request(self) -> None:
        """The connection is free: take up what was pipelined, and read on."""
        if self._frontend.parking:
            self.park()
            return
        if self._buffer:
            chunk, self._buffer = self._buffer, b""
            self._collect_head(chunk)
        if self.phase is HEAD and not self.closed:
            if self._ended or (self._frontend.draining and not self._buffer):
                self.linger()
            else:
                self.watch_reading(True)

    def unpark(self) -> None:
        """Go on where `park` has stopped."""
        if self.phase is HEAD and not (self.closed or self.backlog):
            self._next_request()

    def resume(self, begun: bytes) -> None:
        """Another process has read `begun` of the next request."""
        self._collect_head(begun)

    def upstream_failed(
        self, upstream: Upstream, error: UpstreamError, *, unheard: bool = False
    ) -> None:
        """The backend broke off, spoke nonsense or stayed silent: retry, answer, or break too.

        Args:
            upstream: the connection, which is of no more use.
            error: what the client may be told.
            unheard: the backend closed the connection without a word about this request.
        """
        answering = upstream.answering
        end_is_stated = upstream.states_end and not self.wants_plain_body
        self._upstream = None
        upstream.release(reusable=False)
        if self.closed:
            return
        request = self._request
        if answering and end_is_stated:
            self.linger()
        elif answering:
            # Only a reset tells this client that what it has is not the whole response.
            self.abort()
        elif (
            unheard
            and upstream.reused
            and request is not None
            and request.body.kind is NONE
            and request.method in REPEATABLE_METHODS
        ):
            self._frontend.counters.retries += 1
            self.decide_in_task(fresh=True)
        else:
            self.refuse(error.status)

    def switch(self, upstream: Upstream, response: ResponseHead, rest: bytes) -> None:
        """The backend accepted the upgrade: from here on it is a tunnel."""
        request = self._request
        if request is None or not (request.websocket and response.websocket):
            raise UpstreamError(502, "the backend switched to a protocol nobody asked for")
        frontend = self._frontend
        frontend.count_answer(101)
        self._upstream = None
        early, self._buffer = self._buffer, b""
        self.send(
            b"%b%b%bConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n%b"
            % (response.line, response.forward, self._cookie_line(), rest)
        )
        if self.closed:
            upstream.release(reusable=False)
            return
        if early:
            upstream.send(early)
        assert self._decision is not None
        frontend.tunnel(self, upstream, upstream.backend, self._decision)
        # The wheel of time-outs holds what is left of this client for a while: let it be little.
        self._request = self._sent_request = self._decision = None
        self._sent_head = b""
