"""Response heads: what a backend answers, and the lines that go to the client for it.

Owns the meaning of the fields of a response at a gateway: framing, Connection and the other
hop-by-hop fields, the switch to WebSocket. The grammar is in `fields`. It knows neither sockets
nor the cookie that the proxy adds. Whatever is wrong is the backend's fault: 502.

Responses repeat as a whole more often than one would think (same status, same second of Date),
so a head is remembered with its status line; `ResponseHead` says nothing of the request.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from meshlb.core.http.fields import (
    FIELDS_MAX,
    FieldFilter,
    Found,
    backend_fault,
    check_block,
    combined,
    field_pattern,
    list_items,
    without_fields,
)
from meshlb.core.http.framing import (
    CHUNKED_BODY,
    CLOSE_BODY,
    NO_BODY,
    Body,
    BodyKind,
    is_chunked,
    stated_length,
)
from meshlb.core.http.head import HEAD_BYTES_MAX
from meshlb.core.http.memo import Memo
from meshlb.core.websocket.handshake import is_accepting
from meshlb.errors import UpstreamError

SWITCHING_PROTOCOLS: Final = 101
NO_CONTENT: Final = 204
NOT_MODIFIED: Final = 304

_status_line = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?+\r\n"
).match

_FILTER: Final = FieldFilter(
    field_pattern(
        (
            rb"connection",
            rb"content-length",
            rb"http2-settings",
            rb"keep-alive",
            rb"proxy-[^:]++",
            rb"te",
            rb"transfer-encoding",
            rb"upgrade",
        )
    ),
    passed=frozenset(),
)

_KNOWN_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))
_NEVER_NOMINATED = frozenset(
    (b"content-length", b"content-type", b"location", b"set-cookie", b"transfer-encoding")
)


@dataclass(slots=True)
class ResponseHead:
    """A response head as the proxy needs it. It is remembered: treat it as immutable.

    Attributes:
        status: 100 to 999.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        line: the status line to send to the client, with its CRLF; always HTTP/1.1, with the
            backend's reason phrase.
        forward: the end-to-end field lines, each with its CRLF: unchanged and in their order,
            then the framing. Not among them: hop-by-hop fields.
        body: how the body is framed; `NONE` after HEAD, and for 1xx, 204 and 304.
        keep_alive: the backend would take another request on the connection.
        websocket: a 101 that switches to WebSocket.
    """

    status: int
    minor: int
    line: bytes
    forward: bytes
    body: Body
    keep_alive: bool
    websocket: bool
    kept: bytes = field(repr=False)
    """The whole head for the common client: HTTP/1.1, keep-alive, nothing to add."""
    _block: bytes = field(repr=False)

    def field(self, name: bytes) -> bytes | None:
        """The value of the field with the lower-case `name`; of several, joined by `, `.

        Any field as it came, hop-by-hop or not. None where there is none. Slow path.
        """
        return combined(self._block, name)


class ResponseParser:
    """Parses the response heads of one pool, and remembers those it has seen."""

    def __init__(
        self, *, head_bytes_max: int = HEAD_BYTES_MAX, fields_max: int = FIELDS_MAX
    ) -> None:
        """Make a parser that refuses larger heads and more fields."""
        self.head_bytes_max = head_bytes_max
        self._fields_max = fields_max
        self._memo: Memo[ResponseHead] = Memo()
        self._memo_for_head: Memo[ResponseHead] = Memo()

    def parse(self, head: bytes, *, method: bytes) -> ResponseHead:
        """Read a whole head, from the status line to the empty line at the end.

        Args:
            head: the bytes.
            method: of the request; there is no body after HEAD.

        Raises:
            UpstreamError: 502.
        """
        memo = self._memo if method != b"HEAD" else self._memo_for_head
        response = memo.get(head)
        if response is None:
            if len(head) > self.head_bytes_max:
                raise UpstreamError(502, f"the response head exceeds {self.head_bytes_max} bytes")
            response = _read_response(head, fields_max=self._fields_max, to_head=method == b"HEAD")
            memo.keep(head, response)
        return response


def _read_response(head: bytes, *, fields_max: int, to_head: bool) -> ResponseHead:
    match = _status_line(head)
    if match is None:
        raise UpstreamError(502, "invalid response: the status line is malformed")
    minor, status = int(match[1]), int(match[2])
    block = head[match.end() - 1 :]
    check_block(block, fields_max=fields_max, too_many=502, fault=backend_fault)
    found, lines = _FILTER.split(block)
    options = list_items(found.get(b"connection", ()))
    nominated = [option for option in options if option not in _KNOWN_OPTIONS]
    if nominated:
        if not _NEVER_NOMINATED.isdisjoint(nominated):
            raise UpstreamError(502, "invalid response: Connection names an end-to-end field")
        lines = without_fields(lines, nominated)
    body, framing = _read_body(found, status=status, minor=minor, to_head=to_head)
    line = b"HTTP/1.1 %b %b\r\n" % (match[2], match[3] or b"")
    forward = lines + framing
    return ResponseHead(
        status=status,
        minor=minor,
        line=line,
        forward=forward,
        kept=line + forward + b"\r\n",
        body=body,
        keep_alive=body.kind is not BodyKind.CLOSE
        and not (status == NO_CONTENT and _states_body(found))
        and b"close" not in options
        and (minor == 1 or b"keep-alive" in options),
        websocket=status == SWITCHING_PROTOCOLS
        and is_accepting(upgrade=list_items(found.get(b"upgrade", ())), connection=options),
        _block=block,
    )


def _states_body(found: Found) -> bool:
    """Whether bytes are announced; behind a 204, which has none, they might come all the same."""
    return (
        b"transfer-encoding" in found or found.get(b"content-length", [b"0"])[0].strip(b"0") != b""
    )


def _read_body(found: Found, *, status: int, minor: int, to_head: bool) -> tuple[Body, bytes]:
    """How the body is framed (RFC 9112 6.3), and the lines that say so to the client."""
    chunked = is_chunked(found, backend_fault)
    length = stated_length(found, backend_fault)
    if chunked and minor == 0:
        raise UpstreamError(502, "invalid response: HTTP/1.0 has no Transfer-Encoding")
    if status < 200:
        if chunked or length:
            raise UpstreamError(502, "invalid response: an interim response states a body")
        return NO_BODY, b""
    if status == NO_CONTENT:
        return NO_BODY, b""
    framing = b""
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif length is not None:
        framing = b"Content-Length: %d\r\n" % length
    if to_head or status == NOT_MODIFIED:
        return NO_BODY, framing
    if chunked:
        return CHUNKED_BODY, framing
    if length is None:
        return CLOSE_BODY, framing
    return (Body(BodyKind.LENGTH, length) if length else NO_BODY), framing
