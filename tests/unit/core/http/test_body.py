"""Chunked bodies: what passes, what ends them, what breaks them."""

import pytest

from meshlb.core.http.body import (
    CHUNK_LINE_BYTES_MAX,
    TRAILER_BYTES_MAX,
    BodyError,
    ChunkedReader,
)
from meshlb.core.http.fields import FIELDS_MAX


def refuses(raw: bytes) -> bool:
    with pytest.raises(BodyError):
        ChunkedReader().feed(raw)
    return True


def test_a_body_ends_behind_its_trailers_and_leaves_what_follows():
    raw = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert ChunkedReader().feed(raw + b"GET /") == (len(raw), True)


def test_a_body_of_nothing_ends():
    assert ChunkedReader().feed(b"0\r\n\r\n") == (5, True)


def test_an_unfinished_body_is_not_done():
    reader = ChunkedReader()
    assert reader.feed(b"5\r\nhel") == (6, False)
    assert reader.feed(b"lo\r\n0\r\n") == (7, False)
    assert reader.feed(b"\r\n") == (2, True)
    assert reader.feed(b"more") == (0, True)


def test_the_payload_can_be_had_without_the_chunks():
    reader = ChunkedReader(decode=True)
    reader.feed(b"5;a=b\r\nhello\r\n00")
    assert reader.payload() == b"hello"
    reader.feed(b"1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert reader.payload() == b"!"
    assert reader.payload() == b""


@pytest.mark.parametrize("extension", [b";a", b";a=b", b';a="b\\";c"', b";a;b=c"])
def test_extensions_pass(extension):
    assert ChunkedReader().feed(b"0" + extension + b"\r\n\r\n")[1]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"g",
        b"-1",
        b"+1",
        b"0x1",
        b" 1",
        b"1 ",
        b"1\t",
        b"1 ;a",
        b"1;",
        b"1;a=",
        b'1;a="b',
        b"1" * 16,
        b"1;a\x00",
        b"1;\xe4",
        b"1,1",
        b"1\r",
    ],
)
def test_a_malformed_size_is_refused(line):
    assert refuses(line + b"\r\n")


def test_the_size_line_is_limited():
    longest = b"0;" + b"a" * (CHUNK_LINE_BYTES_MAX - 4) + b"\r\n"
    assert ChunkedReader().feed(longest + b"\r\n")[1]
    assert refuses(b"0;a" + longest[2:])
    assert refuses(b"0;" + b"a" * CHUNK_LINE_BYTES_MAX)


@pytest.mark.parametrize("raw", [b"1\n", b"1\r\na\n", b"0\r\n\n", b"0\r\nA: b\n"])
def test_a_bare_lf_is_refused(raw):
    assert refuses(raw)


@pytest.mark.parametrize("raw", [b"1\r\nab\r\n", b"1\r\na0\r\n", b"2\r\na\r\n0\r\n\r\n"])
def test_a_chunk_ends_where_it_said(raw):
    assert refuses(raw)


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length",
        b"TRANSFER-ENCODING",
        b"host",
        b"Connection",
        b"Trailer",
        b"Set-Cookie",
        b"X-Forwarded-For",
        b"Proxy-Authorization",
    ],
)
def test_some_fields_are_no_trailers(name):
    assert refuses(b"0\r\n" + name + b": 1\r\n\r\n")


@pytest.mark.parametrize("line", [b"A", b" A: b", b"A : b", b": b", b"A: \x00", b"A: b\rc"])
def test_a_malformed_trailer_is_refused(line):
    assert refuses(b"0\r\n" + line + b"\r\n\r\n")


def test_trailers_are_limited():
    assert ChunkedReader().feed(b"0\r\n" + b"A: b\r\n" * FIELDS_MAX + b"\r\n")[1]
    assert refuses(b"0\r\n" + b"A: b\r\n" * (FIELDS_MAX + 1))
    fits = b"A: " + b"b" * (TRAILER_BYTES_MAX - 7) + b"\r\n"
    assert ChunkedReader().feed(b"0\r\n" + fits + b"\r\n")[1]
    assert refuses(b"0\r\n" + b"B" + fits + b"\r\n")
    assert refuses(b"0\r\n" + b"A" * (TRAILER_BYTES_MAX + 1))
