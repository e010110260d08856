"""Request heads: what a client asks for, and the lines that go upstream for it.

Owns the meaning of the fields of a request to a gateway: framing, Host, Connection and the other
hop-by-hop fields, Expect, Upgrade, the load-balancer cookie, and what other proxies claim. The
grammar is in `fields` and `target`. It knows neither sockets nor pools.

Heads repeat. A client that polls sends the same one again and again: it is remembered whole. One
that wanders sends another request line with the same fields: they are remembered apart
(`RequestFields`), so that such a request costs one regex and two look-ups in a dict.
"""

from dataclasses import dataclass

from meshlb.core.http.cookies import take_cookie
from meshlb.core.http.fields import (
    FIELDS_MAX,
    FieldFilter,
    Found,
    check_block,
    client_fault,
    combined,
    field_pattern,
    list_items,
    without_fields,
)
from meshlb.core.http.framing import (
    CHUNKED_BODY,
    NO_BODY,
    Body,
    BodyKind,
    is_chunked,
    stated_length,
)
from meshlb.core.http.head import HEAD_BYTES_MAX
from meshlb.core.http.memo import KEY_BYTES_MAX, Memo
from meshlb.core.http.target import is_host, origin_line, parse_unusual_line
from meshlb.core.websocket.handshake import is_opening
from meshlb.errors import DownstreamError

UPGRADE_LINES = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"

_FILTER = FieldFilter(
    field_pattern(
        (
            rb"connection",
            rb"content[-_]length",
            rb"cookie",
            rb"expect",
            rb"forwarded",
            rb"host",
            rb"http2-settings",
            rb"keep-alive",
            rb"max-forwards",
            rb"proxy(?:-[^:]++)?",  # `Proxy` itself would become HTTP_PROXY in a CGI program.
            rb"sec-websocket-key",
            rb"sec-websocket-version",
            rb"te",
            rb"transfer[-_]encoding",
            rb"upgrade",
            rb"x[-_]forwarded[-_][^:]++",  # CGI and WSGI do not tell `_` from `-`.
        )
    ),
    passed=frozenset((b"host", b"sec-websocket-key", b"sec-websocket-version")),
)
"""Cookie, Content-Length and Transfer-Encoding are written anew behind the lines that pass."""

FORWARDS_DIGITS_MAX = 9
"""Of Max-Forwards; nobody has that many proxies."""

_KNOWN_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"))
"""Connection options whose fields, if they have any, are dropped in any case."""

_NEVER_NOMINATED = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"cookie", b"authorization")
)
"""Fields that a client may not have dropped by naming them in Connection."""


@dataclass(slots=True)
class RequestFields:
    """What the field block of a request says, whatever its request line.

    Not frozen, as that would double the time of a parse; nothing changes it all the same.
    """

    block: bytes
    lines: bytes
    """What is forwarded; not yet with Expect, or a Host for HTTP/1.0."""
    host: bytes | None
    body: Body
    closes: bool
    """Connection says `close`."""
    keeps: bool
    """Connection says `keep-alive`."""
    expects: bool
    """Expect says `100-continue`, and there is a body to wait for it."""
    opens_websocket: bool
    """A valid opening handshake, if the request line is."""
    cookies: tuple[bytes, ...]
    lb_cookie: bytes | None
    forwarded: tuple[tuple[bytes, bytes], ...]
    max_forwards: bytes | None
    looked_up: dict[bytes, bytes | None]
    """What `RequestHead.field` was asked for."""


class RequestHead:
    """A request head as the proxy needs it. Shared parts are remembered: treat it as immutable.

    Attributes:
        method: as it came; case matters.
        target: in origin form, or `*`.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        host: of Host, or of a target in absolute form; empty for an HTTP/1.0 client without.
        line: the request line to send upstream, with its CRLF; always HTTP/1.1.
        forward: the end-to-end field lines to send upstream, each with its CRLF: Host and the
            other fields unchanged and in their order, then the framing and the cookies. Not
            among them: hop-by-hop fields, `Forwarded`, `X-Forwarded-*`, the load-balancer cookie.
        body: how the body is framed.
        keep_alive: the client would use the connection again.
        expect_continue: the client waits for `100 Continue` before it sends the body.
        websocket: a valid opening handshake of a WebSocket.
        upgrade_forward: lines to send after `forward` for a WebSocket; else empty.
        cookies: the values of the Cookie fields, as they are forwarded.
        lb_cookie: the value of the load-balancer cookie.
        is_for_us: it must not be forwarded any more (Max-Forwards).
        forwarded: what the client says under `Forwarded` and `X-Forwarded-*`: lower-case name
            and value pairs, repeated fields combined. To be believed of a trusted proxy only.
    """

    __slots__ = (
        "_fields",
        "body",
        "cookies",
        "expect_continue",
        "forward",
        "forwarded",
        "host",
        "is_for_us",
        "keep_alive",
        "lb_cookie",
        "line",
        "method",
        "minor",
        "target",
        "upgrade_forward",
        "websocket",
    )

    def __init__(self, method: bytes, target: bytes, line: bytes, fields: RequestFields) -> None:
        """Describe an HTTP/1.1 request; `RequestParser` adapts it for HTTP/1.0."""
        self.method = method
        self.target = target
        self.minor = 1
        self.line = line
        self.host = fields.host or b""
        self.forward = fields.lines
        self.body = fields.body
        self.keep_alive = not fields.closes
        self.expect_continue = False
        self.is_for_us = False
        self.websocket = False
        self.upgrade_forward = b""
        self.cookies = fields.cookies
        self.lb_cookie = fields.lb_cookie
        self.forwarded = fields.forwarded
        self._fields = fields

    def field(self, name: bytes) -> bytes | None:
        """The value of the field with the lower-case `name`; of several, joined by `, `.

        Any field of the request as it came, hop-by-hop or not. None where there is none.
        """
        looked_up = self._fields.looked_up
        if name in looked_up:
            return looked_up[name]
        value = combined(self._fields.block, name)
        if len(looked_up) < FIELDS_MAX:
            looked_up[name] = value
        return value


class RequestParser:
    """Parses the request heads of one listener, and remembers the field blocks it has seen."""

    def __init__(
        self,
        *,
        head_bytes_max: int = HEAD_BYTES_MAX,
        fields_max: int = FIELDS_MAX,
        drop_cookie: bytes | None = None,
        default_host: bytes = b"",
    ) -> None:
        """Make a parser.

        Args:
            head_bytes_max: a larger head gets 431.
            fields_max: more fields get 431.
            drop_cookie: the name of the load-balancer cookie, which is not forwarded.
            default_host: the Host to send upstream for an HTTP/1.0 client that sent none.
        """
        self.head_bytes_max = head_bytes_max
        self._fields_max = fields_max
        self._drop_cookie = drop_cookie
        self._default_host = default_host
        self._memo: Memo[RequestFields] = Memo()
        self._heads: Memo[RequestHead] = Memo()

    def remembered(self, piece: bytes) -> RequestHead | None:
        """What `piece` was read as before, if it is a whole head: the common case, told cheaply."""
        return self._heads.get(piece) if len(piece) <= KEY_BYTES_MAX else None

    def parse(self, head: bytes) -> RequestHead:
        """Read a whole head, from the request line to the empty line at the end.

        Raises:
            DownstreamError: 400, 405, 417, 431, 501 or 505.
        """
        request = self._heads.get(head)
        if request is None:
            request = self._parse(head)
            if not request.websocket:  # Its key is random: this head will not come again.
                self._heads.keep(head, request)
        return request

    def _parse(self, head: bytes) -> RequestHead:
        if len(head) > self.head_bytes_max:
            raise DownstreamError(431, f"the head is longer than {self.head_bytes_max} bytes")
        match = origin_line(head)
        if match is None:
            return self._parse_unusual(head)
        method, target, minor = match.groups()
        end = match.end()
        return self._build(
            method, target, minor == b"1", head[:end], self._fields_of(head[end - 1 :])
        )

    def _parse_unusual(self, head: bytes) -> RequestHead:
        """A target that is not in origin form, empty lines in front, or an error."""
        start = parse_unusual_line(head)
        line = b"%b %b HTTP/1.1\r\n" % (start.method, start.target)
        fields = self._fields_of(head[start.size_bytes - 1 :])
        request = self._build(start.method, start.target, start.minor == 1, line, fields)
        if start.host is not None:
            # RFC 9112 3.2.2: the target overrules the field.
            request.host = start.host
            others = without_fields(request.forward, (b"host",))
            request.forward = b"Host: %b\r\n%b" % (start.host, others)
        return request

    def _build(
        self, method: bytes, target: bytes, is_http11: bool, line: bytes, fields: RequestFields
    ) -> RequestHead:
        if method == b"TRACE":
            raise DownstreamError(405, "TRACE would tell a client what proxies add to its requests")
        request = RequestHead(method, target, line, fields)
        if fields.max_forwards is not None:
            _count_forwards(request, fields.max_forwards)
        if not is_http11:
            self._adapt_http10(request, fields)
        elif fields.host is None:
            raise DownstreamError(400, "HTTP/1.1 without Host")
        elif fields.expects:
            request.expect_continue = True
            request.forward += b"Expect: 100-continue\r\n"
        elif fields.opens_websocket and method == b"GET":
            request.websocket = True
            request.upgrade_forward = UPGRADE_LINES
        return request

    def _adapt_http10(self, request: RequestHead, fields: RequestFields) -> None:
        """What an older client says less, or must not say."""
        if fields.body.kind is BodyKind.CHUNKED:
            raise DownstreamError(400, "HTTP/1.0 has no Transfer-Encoding")
        request.minor = 0
        request.line = b"%b %b HTTP/1.1\r\n" % (request.method, request.target)
        request.keep_alive = fields.keeps and not fields.closes
        if fields.host is None:
            request.forward = b"Host: %b\r\n%b" % (self._default_host, request.forward)

    def _fields_of(self, block: bytes) -> RequestFields:
        fields = self._memo.get(block)
        if fields is None:
            check_block(block, fields_max=self._fields_max, too_many=431, fault=client_fault)
            fields = _read_fields(block, drop_cookie=self._drop_cookie)
            if not fields.opens_websocket:  # Its key is random: this block will not come again.
                self._memo.keep(block, fields)
        return fields


def _read_fields(block: bytes, *, drop_cookie: bytes | None) -> RequestFields:
    """Read a valid field block. Raises DownstreamError 400, 417 or 501."""
    found, lines = _FILTER.split(block)
    options = list_items(found.get(b"connection", ()))
    nominated = [option for option in options if option not in _KNOWN_OPTIONS]
    if nominated:
        if not _NEVER_NOMINATED.isdisjoint(nominated):
            raise DownstreamError(400, "Connection names a field that is not hop-by-hop")
        lines = without_fields(lines, nominated)
    if b"content_length" in found or b"transfer_encoding" in found:
        # CGI and WSGI do not tell `_` from `-`, so to some backends this is framing.
        raise DownstreamError(400, "a field that might be taken for the framing")
    body = _read_body(found)
    lb_cookie, passed_cookies = None, found.get(b"cookie", [])
    if drop_cookie is not None:
        lb_cookie, passed_cookies = take_cookie(passed_cookies, drop_cookie)
    return RequestFields(
        block=block,
        lines=lines + _rewritten_lines(found, body, passed_cookies),
        host=_read_host(found),
        body=body,
        closes=b"close" in options,
        keeps=b"keep-alive" in options,
        expects=_read_expect(found) and body.kind is not BodyKind.NONE,
        opens_websocket=b"upgrade" in found
        and body.kind is BodyKind.NONE
        and is_opening(
            upgrade=list_items(found[b"upgrade"]),
            connection=options,
            keys=found.get(b"sec-websocket-key", []),
            versions=found.get(b"sec-websocket-version", []),
        ),
        cookies=tuple(passed_cookies),
        lb_cookie=lb_cookie,
        forwarded=tuple(
            [
                (name, b", ".join(values))
                for name, values in found.items()
                if name.startswith((b"x-forwarded-", b"forwarded"))
            ]
        ),
        max_forwards=_read_max_forwards(found),
        looked_up={},
    )


def _rewritten_lines(found: Found, body: Body, cookies: list[bytes]) -> bytes:
    """The lines that `_FILTER` took out and that go upstream all the same, in one form."""
    lines = b""
    if body.kind is BodyKind.CHUNKED:
        lines = b"Transfer-Encoding: chunked\r\n"
    elif b"content-length" in found:
        lines = b"Content-Length: %d\r\n" % body.length
    if b"te" in found and b"trailers" in list_items(found[b"te"]):
        lines += b"TE: trailers\r\nConnection: TE\r\n"
    for value in cookies:
        lines += b"Cookie: %b\r\n" % value
    return lines


def _read_body(found: Found) -> Body:
    if is_chunked(found, client_fault):
        return CHUNKED_BODY
    length = stated_length(found, client_fault)
    return Body(BodyKind.LENGTH, length) if length else NO_BODY


def _read_host(found: Found) -> bytes | None:
    values = found.get(b"host")
    if values is None:
        return None
    if len(values) > 1 or is_host(values[0]) is None:
        raise DownstreamError(400, "Host is malformed, or there are several")
    return values[0]


def _read_expect(found: Found) -> bool:
    values = found.get(b"expect")
    if values is None:
        return False
    if list_items(values) != [b"100-continue"]:
        raise DownstreamError(417, "an expectation that is not 100-continue")
    return True


def _read_max_forwards(found: Found) -> bytes | None:
    values = found.get(b"max-forwards")
    if values is None:
        return None
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > FORWARDS_DIGITS_MAX:
        raise DownstreamError(400, "Max-Forwards is not a number")
    return values[0]


def _count_forwards(request: RequestHead, stated: bytes) -> None:
    """Max-Forwards (RFC 9110 7.6.2) limits OPTIONS alone here; elsewhere it is passed on."""
    if request.method == b"OPTIONS":
        request.is_for_us = int(stated) == 0
        stated = b"%d" % max(int(stated) - 1, 0)
    request.forward += b"Max-Forwards: %b\r\n" % stated
