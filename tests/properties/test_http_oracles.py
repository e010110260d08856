"""Heads and bodies beside two other implementations: h11 and llhttp (by way of httptools).

What both of them refuse, we refuse; what we accept, both accept, and all three find the same end
of the body and the same payload. We may be stricter than either, never laxer.

Exceptions, each by design: empty lines in front of a request line (llhttp accepts them, h11 does
not), and methods that llhttp does not know; neither is generated here.
"""

import contextlib
import io

import h11
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meshlb.core.http.body import BodyError, ChunkedReader
from meshlb.core.http.framing import BodyKind
from meshlb.core.http.head import find_head_end
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

METHODS = ["GET", "POST", "HEAD", "OPTIONS", "DELETE"]

# Streams: mostly valid, then damaged a little where it hurts.

names = st.sampled_from(
    [
        "Host",
        "Accept",
        "X-A",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Cookie",
        "TE",
        "Expect",
        "X_Y",
        "Trailer",
        "content-length",
        "TRANSFER-ENCODING",
    ]
)
values = st.sampled_from(
    [
        "a",
        "",
        "0",
        "5",
        "5, 5",
        "+5",
        "05",
        "chunked",
        "Chunked",
        "chunked ",
        "\tchunked",
        "gzip, chunked",
        "identity",
        "close",
        "keep-alive",
        "x y",
        "ä",
        "100-continue",
        "a=b; c=d",
    ]
)
loose_lines = st.builds("{}: {}".format, names, values)
chunked_line = st.just("Transfer-Encoding: chunked")
length_line = st.just("Content-Length: 5")
targets = st.sampled_from(["/", "/a?b=c", "/a;b=c", "*", "http://a/b", "a", "/%zz", "/a|b", "//x"])
versions = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2"])
statuses = st.sampled_from([200, 200, 200, 404, 204, 304, 100, 500])
chunked_bodies = st.sampled_from(
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"1;a=b\r\nx\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    ]
)
bodies = st.sampled_from([b"", b"hello"]) | chunked_bodies
nasty = st.sampled_from([bytes((byte,)) for byte in b'\r\n\t\0\x0b\x7f\x80 :,;05f-x"\\'])
nasty |= st.sampled_from([b"\r\n", b"\r\n\r\n", b"\r\n "])


@st.composite
def damaged(draw: st.DrawFn, stream: bytes) -> bytes:
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(stream)))
        cut = draw(st.sampled_from([0, 0, 1, 2]))
        stream = stream[:at] + draw(nasty | st.just(b"")) + stream[at + cut :]
    return stream


@st.composite
def messages(draw: st.DrawFn, start: str) -> bytes:
    lines = draw(st.lists(loose_lines | chunked_line | length_line, max_size=3))
    head = "\r\n".join([start, *lines, "", ""]).encode("latin-1")
    return draw(damaged(head + draw(bodies)))


@st.composite
def request_streams(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(METHODS))
    start = f"{method} {draw(targets)} {draw(versions)}"
    host = draw(st.sampled_from(["\r\nHost: a", "\r\nHost: a:80", "\r\nhost:a", ""]))
    return draw(messages(start + host)) + b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"


@st.composite
def response_streams(draw: st.DrawFn) -> bytes:
    start = f"{draw(versions)} {draw(statuses)} Fine"
    return draw(messages(start)) + b"HTTP/1.1 299 Next\r\nContent-Length: 0\r\n\r\n"


def check(stream: bytes, ours: Reading | None, theirs: list[Reading | None]) -> None:
    if ours is None:
        return
    assert all(reading is not None for reading in theirs), "laxer than an oracle"
    for reading in theirs:
        assert reading == ours, "framed differently"


@settings(max_examples=400, deadline=None)
@given(request_streams())
def test_requests_are_framed_as_others_frame_them(stream):
    assume(stream.partition(b" ")[0].decode("latin-1") in METHODS)
    check(stream, our_request(stream), [h11_request(stream), llhttp_request(stream)])


@settings(max_examples=400, deadline=None)
@given(response_streams())
def test_responses_are_framed_as_others_frame_them(stream):
    check(stream, our_response(stream), [h11_response(stream), llhttp_response(stream)])


@settings(max_examples=300, deadline=None)
@given(chunked_bodies.flatmap(damaged), st.lists(st.integers(1, 8), max_size=8))
def test_a_chunked_body_reads_the_same_in_whatever_pieces(stream, steps):
    def read(pieces: list[bytes]) -> tuple[int, bool, bytes] | None:
        reader = ChunkedReader(decode=True)
        consumed, done, payload = 0, False, b""
        for piece in pieces:
            try:
                taken, done = reader.feed(piece)
            except BodyError:
                return None
            consumed += taken
            payload += reader.payload()
        return consumed, done, payload

    source = io.BytesIO(stream)
    in_pieces = [source.read(step) for step in steps] + [source.read()]
    byte_by_byte = [stream[n : n + 1] for n in range(len(stream))]
    assert read([stream]) == read(in_pieces) == read(byte_by_byte)


@settings(max_examples=200, deadline=None)
@given(request_streams(), st.lists(st.integers(1, 8), max_size=12))
def test_a_request_reads_the_same_in_whatever_pieces(stream, steps):
    def read(pieces: list[bytes]) -> tuple[bytes, bytes] | None:
        try:
            found = collect_head(pieces)
            request = RequestParser().parse(found[0]) if found is not None else None
        except DownstreamError:
            return None
        return (request.line, request.forward) if request is not None else None

    source = io.BytesIO(stream)
    in_pieces = [source.read(step) for step in steps] + [source.read()]
    byte_by_byte = [stream[n : n + 1] for n in range(len(stream))]
    assert read([stream]) == read(in_pieces) == read(byte_by_byte)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | request_streams() | response_streams())
def test_arbitrary_bytes_raise_only_errors_of_ours(raw):
    with contextlib.suppress(DownstreamError):
        find_head_end(raw)
    with contextlib.suppress(DownstreamError):
        RequestParser(drop_cookie=b"a").parse(raw)
    with contextlib.suppress(UpstreamError):
        ResponseParser().parse(raw, method=b"GET")
    with contextlib.suppress(BodyError):
        ChunkedReader().feed(raw)


@settings(max_examples=100, deadline=None)
@given(request_streams())
def test_what_goes_upstream_is_understood_there_as_it_was_meant(stream):
    try:
        end = find_head_end(stream)
        request = RequestParser(drop_cookie=b"a").parse(stream[:end]) if end >= 0 else None
    except DownstreamError:
        request = None
    assume(request is not None)
    backend = h11.Connection(h11.SERVER)
    backend.receive_data(request.line + request.forward + b"\r\n")
    head = backend.next_event()
    assert isinstance(head, h11.Request)
    fields = dict(head.headers)
    assert (head.method, head.target) == (request.method, request.target)
    assert (b"transfer-encoding" in fields) == (request.body.kind is BodyKind.CHUNKED)
    if request.body.kind is BodyKind.LENGTH:
        assert int(fields[b"content-length"]) == request.body.length
    assert fields.get(b"connection", b"TE") == b"TE"
