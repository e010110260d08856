"""Three readers of HTTP/1.1: a message that meshlb takes, h11 and llhttp take too, and alike.

What meshlb accepts, both others accept, with the same payload and the same last byte; it may be
stricter, never laxer. Nor does it matter in which pieces a message comes, and what would go on to
the other side is again one message for both, with the same payload, and not one byte more.

Input: a byte that says what it is (see `Kind`), then a stream that begins with the message.
"""

from collections.abc import Callable, Iterator

from meshlb.core.http.body import BodyError, ChunkedReader
from meshlb.core.http.fields import Fault, backend_fault, client_fault
from meshlb.core.http.framing import Body, BodyKind
from meshlb.core.http.request import RequestParser
from meshlb.core.http.response import ResponseParser
from meshlb.errors import DownstreamError, UpstreamError
from tests.fakes.http_readers import (
    Reading,
    collect_head,
    h11_request,
    h11_response,
    llhttp_request,
    llhttp_response,
    our_request,
    our_response,
)
from tests.fuzz.reader import Reader

METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH")
"""Those that llhttp knows and that have no rules of their own, as CONNECT and UPGRADE have."""

WORDS = (
    *("GET / HTTP/1.1", "POST ", " HTTP/1.0", "HTTP/1.1 200 OK", "HTTP/1.1 204 x", "HTTP/1.1 304"),
    *("Host: a", "host:", "Content-Length: 5", "content-length:0", "Transfer-Encoding: chunked"),
    *("transfer-encoding:", "chunked", "identity", "gzip, chunked", "Connection: close", "keep-"),
    *("Connection: upgrade", "Upgrade: websocket", "Expect: 100-continue", "TE: trailers"),
    *("Trailer: a", "http://a", "\r\n", "\r\n\r\n", "\n", "\r", "\t", "\0", " ", ";a=b", '"', "\\"),
    *("0\r\n\r\n", "5\r\nhello\r\n", "1;a\r\nx\r\n", "\x0b", "\x7f", "\x80", "+5", "0x5", "-1"),
)
"""What the fuzzer puts in, beside bytes of its own."""

Read = Callable[[bytes], Reading | None]


def check(given: bytes, ours: Read | None = None) -> None:
    """Raises what must not happen."""
    reader = Reader(given)
    is_response = bool(reader.number() & 1)
    step = 1 + reader.number() % 16
    stream = reader.rest()
    if is_response:
        check_response(stream, step, ours or our_response)
    else:
        check_request(stream, step, ours or our_request)


def check_request(stream: bytes, step: int, read: Read) -> None:
    ours = read(stream)
    assert in_pieces(stream, step, client_fault) == in_pieces(stream, len(stream), client_fault)
    if ours is None or not stream.startswith(tuple(method + b" " for method in METHODS)):
        return
    agree(ours, h11_request(stream), llhttp_request(stream))
    sent = sent_upstream(stream)
    if ours.end is not None and sent is not None:
        passed = Reading(ours.payload, len(sent))
        agree(passed, h11_request(sent), llhttp_request(sent))


def check_response(stream: bytes, step: int, read: Read) -> None:
    ours = read(stream)
    assert in_pieces(stream, step, backend_fault) == in_pieces(stream, len(stream), backend_fault)
    if ours is None or stream[9:12] == b"101":  # For who has asked for it, which is seen elsewhere.
        return
    agree(ours, h11_response(stream), *other_readings(stream))
    sent = sent_downstream(stream)
    if ours.end is not None and sent is not None:
        passed = Reading(ours.payload, len(sent))
        agree(passed, h11_response(sent), llhttp_response(sent))


def other_readings(stream: bytes) -> list[Reading | None]:
    """What llhttp says; it takes 204 and 304 to have a body where Transfer-Encoding says so."""
    return [] if stream[9:12] in (b"204", b"304") else [llhttp_response(stream)]


def agree(ours: Reading, *theirs: Reading | None) -> None:
    for reading in theirs:
        if reading is None and ours.end is None:
            continue  # A line is judged once it has ended; until then it is waited for.
        assert reading is not None, "laxer than another reader"
        assert reading == ours, "framed differently"


def in_pieces(stream: bytes, size: int, fault: Fault) -> object:
    """What is made of a stream that comes in pieces of `size`."""
    pieces = [stream[start : start + size] for start in range(0, len(stream), size or 1)]
    try:
        found = collect_head(pieces, fault)
        if found is None:
            return None
        head = found[0]
        body = body_of(head, fault)
    except (DownstreamError, UpstreamError):
        return None
    if body.kind is not BodyKind.CHUNKED:
        return head, body
    rest = stream[len(head) :]
    chunks, position, ended = ChunkedReader(decode=True), 0, False
    try:
        while position < len(rest) and not ended:
            consumed, ended = chunks.feed(rest[position : position + (size or 1)])
            position += consumed
    except BodyError:
        return None
    return head, position, ended, chunks.payload()


def body_of(head: bytes, fault: Fault) -> Body:
    if fault is client_fault:
        return RequestParser().parse(head).body
    return ResponseParser().parse(head, method=b"GET").body


def sent_upstream(stream: bytes) -> bytes | None:
    """The request as a backend gets it, with its body as it came."""
    found = collect_head([stream])
    assert found is not None
    request = RequestParser(drop_cookie=b"a").parse(found[0])
    if request.websocket:
        return None
    return request.line + request.forward + b"\r\n" + body_as_it_came(request.body, found[1])


def sent_downstream(stream: bytes) -> bytes | None:
    """The response as a client gets it; None for one whose end is that of the connection."""
    found = collect_head([stream], backend_fault)
    assert found is not None
    response = ResponseParser().parse(found[0], method=b"GET")
    if response.body.kind is BodyKind.CLOSE or response.status == 101:
        return None
    return response.kept + body_as_it_came(response.body, found[1])


def body_as_it_came(body: Body, rest: bytes) -> bytes:
    if body.kind is BodyKind.CHUNKED:
        return rest[: ChunkedReader().feed(rest)[0]]
    return rest[: body.length]


def seeds() -> Iterator[bytes]:
    heads = (
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST /a?b=c HTTP/1.1\r\nHost: a:80\r\nCookie: a=b; c=d\r\n",
        b"PUT http://b/c HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nX: y\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost:a\r\nTE: trailers\r\nExpect: 100-continue\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n",
    )
    answers = (
        b"HTTP/1.1 200 OK\r\nServer: x\r\n",
        b"HTTP/1.0 404\r\nConnection: keep-alive\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 304 Not Modified\r\n",
        b"HTTP/1.1 103 Early\r\nLink: </a>\r\n",
    )
    bodies = (
        b"\r\n",
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b'Transfer-Encoding: Chunked\r\n\r\n1;a="b"\r\nx\r\n00\r\nX-Sum: 1\r\n\r\n',
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: +5\r\nContent-Length: 5\r\n\r\nhello",
    )
    for body in bodies:
        for head in heads:
            yield b"\0\3" + head + body + b"GET /next HTTP/1.1\r\n"
        for answer in answers:
            yield b"\1\0" + answer + body + b"HTTP/1.1 299 Next\r\n"
