"""Passing a chunked body on (RFC 9112 section 7.1): every byte is checked, none is changed.

Owns the grammar of chunks and trailers and finds where the body ends, whatever pieces it comes
in. A reader holds at most one partial line. The caller forwards what `feed` has consumed; where
it raises, nothing of that piece may be forwarded, and the connection is of no more use.
"""

import enum
import re

from meshlb.core.http.fields import FIELDS_MAX, TOKEN_CHAR, is_field_line

CHUNK_LINE_BYTES_MAX = 256
"""A chunk-size line with its extensions; nobody has a use for long ones."""

TRAILER_BYTES_MAX = 8 << 10
"""All trailer fields together."""

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_match_size_line = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:;" + TOKEN_CHAR + rb"++(?:=(?:" + TOKEN_CHAR + rb"++|" + _QUOTED + rb"))?+)*+"
).fullmatch

FORBIDDEN_TRAILERS = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Trailers that would frame, route, authenticate or reinterpret the message (RFC 9110 6.5.1).
`X-Forwarded-*` and `Proxy-*` are refused too."""
_FORBIDDEN_PREFIXES = (b"proxy-", b"x-forwarded-", b"x_forwarded_")


class BodyError(ValueError):
    """The body is malformed. Whose fault that is, and which status, is for the caller to say."""


class _State(enum.IntEnum):
    """What the next byte belongs to.

    SIZE → CONTENT → CONTENT_END → SIZE …, and from SIZE, after the chunk of size 0,
    → TRAILER → DONE.
    """

    SIZE = 0
    CONTENT = 1
    CONTENT_END = 2
    TRAILER = 3
    DONE = 4


class ChunkedReader:
    """Reads one chunked body.

    Args:
        decode: keep what the chunks contain, for `payload`.
    """

    __slots__ = ("_left_bytes", "_line", "_payload", "_state", "_trailer_bytes", "_trailers")

    def __init__(self, *, decode: bool = False) -> None:
        self._state = _State.SIZE
        self._left_bytes = 0
        self._line = b""
        self._payload: list[bytes] | None = [] if decode else None
        self._trailers = 0
        self._trailer_bytes = 0

    def feed(self, piece: bytes) -> tuple[int, bool]:
        """Read on in `piece`.

        Returns:
            How many of its bytes belong to the body, and whether the body has ended. Bytes are
            left over only after the end.

        Raises:
            BodyError: the body is malformed.
        """
        position = 0
        size = len(piece)
        while position < size:
            state = self._state
            if state is _State.CONTENT:
                position = self._pass_content(piece, position)
            elif state is _State.DONE:
                break
            else:
                position = self._pass_line(piece, position, state)
        return position, self._state is _State.DONE

    def payload(self) -> bytes:
        """What the chunks contained since the last call; needs `decode`."""
        assert self._payload is not None, "made without decode=True"
        payload = b"".join(self._payload)
        self._payload.clear()
        return payload

    def _pass_content(self, piece: bytes, position: int) -> int:
        end = position + self._left_bytes
        if end > len(piece):
            end = len(piece)
        self._left_bytes -= end - position
        if self._payload is not None:
            self._payload.append(piece[position:end])
        if not self._left_bytes:
            self._state = _State.CONTENT_END
        return end

    def _pass_line(self, piece: bytes, position: int, state: _State) -> int:
        """Read one line, or what there is of it."""
        end = piece.find(b"\n", position)
        part = piece[position : end + 1] if end >= 0 else piece[position:]
        line = self._line + part if self._line else part
        if len(line) > self._line_bytes_max(state):
            raise BodyError("a line between chunks, or the trailers, are too long")
        if end < 0:
            self._line = line
            return len(piece)
        if not line.endswith(b"\r\n"):
            raise BodyError("a line ends in a bare LF")
        self._line = b""
        self._take_line(line[:-2], state)
        return end + 1

    def _line_bytes_max(self, state: _State) -> int:
        if state is _State.TRAILER:
            return TRAILER_BYTES_MAX - self._trailer_bytes
        return CHUNK_LINE_BYTES_MAX if state is _State.SIZE else 2

    def _take_line(self, line: bytes, state: _State) -> None:
        if state is _State.SIZE:
            match = _match_size_line(line)
            if match is None:
                raise BodyError("a chunk size is malformed")
            self._left_bytes = int(match[1], 16)
            self._state = _State.CONTENT if self._left_bytes else _State.TRAILER
        elif state is _State.CONTENT_END:
            # The line is at most 2 bytes long, so it is empty.
            self._state = _State.SIZE
        elif line:
            self._take_trailer(line)
        else:
            self._state = _State.DONE

    def _take_trailer(self, line: bytes) -> None:
        self._trailers += 1
        self._trailer_bytes += len(line) + 2
        if self._trailers > FIELDS_MAX:
            raise BodyError("too many trailers")
        name = line.partition(b":")[0].lower()
        if is_field_line(line) is None:
            raise BodyError("a trailer is malformed")
        if name in FORBIDDEN_TRAILERS or name.startswith(_FORBIDDEN_PREFIXES):
            raise BodyError("a trailer that must not be one")
