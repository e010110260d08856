"""What a backend may answer, and what goes to the client for it."""

import pytest

from meshlb.core.http.framing import BodyKind
from meshlb.core.http.response import ResponseHead, ResponseParser
from meshlb.errors import UpstreamError


def head(*lines: str, start: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join((start, *lines, "", "")).encode("latin-1")


def parse(*lines: str, start: str = "HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    return ResponseParser().parse(head(*lines, start=start), method=method)


def refuses(*lines: str, start: str = "HTTP/1.1 200 OK") -> bool:
    with pytest.raises(UpstreamError) as caught:
        parse(*lines, start=start)
    return caught.value.status == 502


def test_a_plain_response_is_forwarded_as_it_came():
    response = parse("Server: x", "Set-Cookie: a=b", "Set-Cookie: c=d", "Content-Length: 5")
    assert (response.status, response.minor, response.line) == (200, 1, b"HTTP/1.1 200 OK\r\n")
    assert response.forward == (
        b"Server: x\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 5\r\n"
    )
    assert (response.body.kind, response.body.length) == (BodyKind.LENGTH, 5)
    assert response.keep_alive


def test_a_response_that_was_seen_before_is_the_same():
    parser = ResponseParser()
    raw = head("Content-Length: 5")
    assert parser.parse(raw, method=b"GET") is parser.parse(bytes(bytearray(raw)), method=b"POST")


def test_head_and_get_are_not_mixed_up_from_memory():
    parser = ResponseParser()
    raw = head("Content-Length: 5")
    assert parser.parse(raw, method=b"GET").body.kind is BodyKind.LENGTH
    assert parser.parse(raw, method=b"HEAD").body.kind is BodyKind.NONE
    assert parser.parse(raw, method=b"GET").body.kind is BodyKind.LENGTH


@pytest.mark.parametrize(
    ("start", "line"),
    [
        ("HTTP/1.0 404 Not There", b"HTTP/1.1 404 Not There\r\n"),
        ("HTTP/1.1 200", b"HTTP/1.1 200 \r\n"),
        ("HTTP/1.1 200 ", b"HTTP/1.1 200 \r\n"),
        ("HTTP/1.1 999 H\xe4h?", b"HTTP/1.1 999 H\xe4h?\r\n"),
    ],
)
def test_the_reason_is_kept(start, line):
    assert parse(start=start).line == line


@pytest.mark.parametrize(
    "start",
    [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1  200 OK",
        "HTTP/2.0 200 OK",
        "200 OK",
        "HTTP/1.1 099 No",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\x00K",
        "\r\nHTTP/1.1 200 OK",
        "",
    ],
)
def test_a_malformed_status_line_is_refused(start):
    assert refuses(start=start)


@pytest.mark.parametrize("line", ["A : b", " A: b", "A", "A: b\x00", "A: b\rc", "A: b\nc"])
def test_a_malformed_field_is_refused(line):
    assert refuses(line)


def test_the_size_of_a_head_is_limited():
    raw = head("A: 1", "B: 2")
    ResponseParser(head_bytes_max=len(raw), fields_max=2).parse(raw, method=b"GET")
    for parser in (ResponseParser(head_bytes_max=len(raw) - 1), ResponseParser(fields_max=1)):
        with pytest.raises(UpstreamError):
            parser.parse(raw, method=b"GET")


class TestFraming:
    def test_without_a_length_the_connection_ends_the_body(self):
        response = parse()
        assert response.body.kind is BodyKind.CLOSE
        assert not response.keep_alive

    def test_chunked_is_chunked(self):
        response = parse("Transfer-Encoding: CHUNKED")
        assert response.body.kind is BodyKind.CHUNKED
        assert response.forward == b"Transfer-Encoding: chunked\r\n"
        assert response.keep_alive

    def test_a_length_of_0_is_no_body(self):
        response = parse("Content-Length: 0")
        assert response.body.kind is BodyKind.NONE
        assert response.forward == b"Content-Length: 0\r\n"

    @pytest.mark.parametrize("status", [100, 101, 103, 199, 204])
    def test_some_statuses_have_neither_body_nor_length(self, status):
        response = parse("Content-Length: 0", start=f"HTTP/1.1 {status} X")
        assert response.body.kind is BodyKind.NONE
        assert response.forward == b""
        assert response.keep_alive

    @pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
    def test_a_body_announced_where_there_is_none_ends_the_connection(self, line):
        response = parse(line, start="HTTP/1.1 204 No Content")
        assert (response.body.kind, response.forward) == (BodyKind.NONE, b"")
        assert not response.keep_alive
        for status in (100, 101, 103, 199):
            with pytest.raises(UpstreamError):
                parse(line, start=f"HTTP/1.1 {status} X")

    def test_not_modified_has_a_length_without_a_body(self):
        response = parse("Content-Length: 5", start="HTTP/1.1 304 Not Modified")
        assert response.body.kind is BodyKind.NONE
        assert response.forward == b"Content-Length: 5\r\n"

    def test_head_has_a_length_without_a_body(self):
        assert parse("Content-Length: 5", method=b"HEAD").forward == b"Content-Length: 5\r\n"
        response = parse(method=b"HEAD")
        assert response.body.kind is BodyKind.NONE
        assert response.keep_alive

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 3", "Transfer-Encoding: chunked"),
            ("Content-Length: 3", "Content-Length: 3"),
            ("Content-Length: 3, 3",),
            ("Content-Length: x",),
            ("Transfer-Encoding: gzip",),
            ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ],
    )
    def test_an_end_that_can_be_read_in_two_ways_is_refused(self, lines):
        assert refuses(*lines)

    def test_http_1_0_has_no_chunks(self):
        assert refuses("Transfer-Encoding: chunked", start="HTTP/1.0 200 OK")


class TestConnection:
    def test_hop_by_hop_fields_stay_here(self):
        response = parse("Keep-Alive: 5", "Upgrade: h2c", "Connection: X-Hop", "X-Hop: 1", "A: b")
        assert response.forward == b"A: b\r\n"

    @pytest.mark.parametrize("name", ["Set-Cookie", "Content-Length", "transfer-encoding"])
    def test_connection_cannot_nominate_what_a_response_needs(self, name):
        assert refuses(f"Connection: {name}")

    @pytest.mark.parametrize(
        ("start", "connection", "keep_alive"),
        [
            ("HTTP/1.1 200 OK", "close", False),
            ("HTTP/1.1 200 OK", "x", True),
            ("HTTP/1.0 200 OK", "x", False),
            ("HTTP/1.0 200 OK", "Keep-Alive", True),
            ("HTTP/1.0 200 OK", "keep-alive, close", False),
        ],
    )
    def test_says_whether_it_can_be_used_again(self, start, connection, keep_alive):
        response = parse("Content-Length: 1", f"Connection: {connection}", start=start)
        assert response.keep_alive is keep_alive


class TestWebSocket:
    START = "HTTP/1.1 101 Switching Protocols"

    def test_a_switch_is_recognised(self):
        response = parse(
            "Upgrade: WebSocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            start=self.START,
        )
        assert response.websocket
        assert response.forward == b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        assert response.field(b"upgrade") == b"WebSocket"

    def test_another_switch_is_not(self):
        assert not parse("Upgrade: h2c", "Connection: Upgrade", start=self.START).websocket
        assert not parse("Upgrade: websocket", start=self.START).websocket
        assert not parse("Upgrade: websocket", "Connection: Upgrade").websocket
