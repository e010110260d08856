"""What a client may say, what it may not, and what goes upstream for it."""

import pytest

from meshlb.core.http.framing import BodyKind
from meshlb.core.http.memo import KEY_BYTES_MAX
from meshlb.core.http.request import UPGRADE_LINES, RequestHead, RequestParser
from meshlb.errors import DownstreamError

HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def head(*lines: str, start: str = "GET / HTTP/1.1", host: bool = True) -> bytes:
    every = (start, *(("Host: a",) if host else ()), *lines, "", "")
    return "\r\n".join(every).encode("latin-1")


def parse(*lines: str, start: str = "GET / HTTP/1.1", host: bool = True) -> RequestHead:
    return RequestParser(drop_cookie=b"LB").parse(head(*lines, start=start, host=host))


def status_of(raw: bytes) -> int:
    with pytest.raises(DownstreamError) as caught:
        RequestParser().parse(raw)
    return caught.value.status


def test_a_plain_request_is_forwarded_as_it_came():
    request = parse("Accept: */*", "X-Odd:  two  words ")
    assert (request.method, request.target, request.minor) == (b"GET", b"/", 1)
    assert request.line == b"GET / HTTP/1.1\r\n"
    assert request.forward == b"Host: a\r\nAccept: */*\r\nX-Odd:  two  words \r\n"
    assert request.host == b"a"
    assert request.body.kind is BodyKind.NONE
    assert request.keep_alive
    assert not request.websocket
    assert request.upgrade_forward == b""


def test_a_head_that_was_seen_before_reads_the_same():
    parser = RequestParser(drop_cookie=b"LB")
    first = parser.parse(head("Cookie: LB=x; a=b", "Content-Length: 3", start="POST /1 HTTP/1.1"))
    again = parser.parse(head("Cookie: LB=x; a=b", "Content-Length: 3", start="PUT /2 HTTP/1.1"))
    assert (again.method, again.target, again.line) == (b"PUT", b"/2", b"PUT /2 HTTP/1.1\r\n")
    assert (again.forward, again.body, again.lb_cookie) == (
        first.forward,
        first.body,
        first.lb_cookie,
    )


def test_one_connection_cannot_change_what_another_one_sees():
    parser = RequestParser()
    old = head("Content-Length: 3", start="POST / HTTP/1.0", host=False)
    assert parser.parse(old).minor == 0
    assert status_of(head("Content-Length: 3", start="POST / HTTP/1.1", host=False)) == 400
    with pytest.raises(DownstreamError):
        parser.parse(head("Content-Length: 3", start="POST / HTTP/1.1", host=False))


class TestHopByHop:
    def test_hop_by_hop_fields_stay_here(self):
        request = parse(
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic x",
            "Proxy: http://evil",
            "Upgrade: h2c",
            "HTTP2-Settings: AAA",
            "TE: gzip",
            "Accept: */*",
        )
        assert request.forward == b"Host: a\r\nAccept: */*\r\n"

    def test_what_connection_nominates_stays_here(self):
        request = parse("X-Hop: 1", "Connection: close, x-HOP", "X-End: 2")
        assert request.forward == b"Host: a\r\nX-End: 2\r\n"
        assert not request.keep_alive

    @pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Cookie"])
    def test_connection_cannot_nominate_what_a_request_needs(self, name):
        assert status_of(head(f"Connection: {name}")) == 400

    def test_te_trailers_is_passed_on_with_its_nomination(self):
        request = parse("TE: trailers, deflate;q=0.5", "Connection: TE")
        assert request.forward == b"Host: a\r\nTE: trailers\r\nConnection: TE\r\n"

    def test_what_other_proxies_claim_is_set_aside(self):
        request = parse(
            "X-Forwarded-For: 1.1.1.1",
            "x-forwarded-for: 2.2.2.2",
            "X_Forwarded_For: 3.3.3.3",
            "X-Forwarded-Port: 80",
            "Forwarded: for=4.4.4.4",
        )
        assert request.forward == b"Host: a\r\n"
        assert dict(request.forwarded) == {
            b"x-forwarded-for": b"1.1.1.1, 2.2.2.2",
            b"x-forwarded-port": b"80",
            b"forwarded": b"for=4.4.4.4",
        }


class TestFraming:
    def test_a_length_is_a_body(self):
        request = parse("Content-Length: 0042", start="POST / HTTP/1.1")
        assert (request.body.kind, request.body.length) == (BodyKind.LENGTH, 42)
        assert request.forward == b"Host: a\r\nContent-Length: 42\r\n"

    def test_a_length_of_0_is_no_body_and_is_passed_on(self):
        request = parse("Content-Length: 0", start="POST / HTTP/1.1")
        assert request.body.kind is BodyKind.NONE
        assert request.forward == b"Host: a\r\nContent-Length: 0\r\n"

    def test_chunked_is_a_body(self):
        request = parse("Transfer-Encoding: Chunked ", start="POST / HTTP/1.1")
        assert request.body.kind is BodyKind.CHUNKED
        assert request.forward == b"Host: a\r\nTransfer-Encoding: chunked\r\n"

    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (("Content-Length: 3", "Transfer-Encoding: chunked"), 400),
            (("Content-Length: 3", "Content-Length: 3"), 400),
            (("Content-Length: 3", "content-length: 4"), 400),
            (("Content-Length: 3, 3",), 400),
            (("Content-Length: +3",), 400),
            (("Content-Length: -1",), 400),
            (("Content-Length: 0x3",), 400),
            (("Content-Length: 3 3",), 400),
            (("Content-Length:",), 400),
            (("Content-Length: " + "9" * 19,), 400),
            (("Content-Length: \xb2",), 400),
            (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
            (("Transfer-Encoding: gzip, chunked",), 501),
            (("Transfer-Encoding: chunked, chunked",), 400),
            (("Transfer-Encoding: identity",), 400),
            (("Transfer-Encoding: xchunked",), 400),
            (("Transfer-Encoding:",), 400),
            (("Transfer-Encoding: \x0bchunked",), 400),
        ],
    )
    def test_an_end_that_can_be_read_in_two_ways_is_refused(self, lines, status):
        assert status_of(head(*lines, start="POST / HTTP/1.1")) == status

    def test_http_1_0_has_no_chunks(self):
        assert status_of(head("Transfer-Encoding: chunked", start="POST / HTTP/1.0")) == 400


class TestGrammar:
    @pytest.mark.parametrize(
        "line",
        [
            "Name : value",
            " Name: value",
            "\tName: value",
            "Name: one\r\n two",
            "Name",
            ": value",
            "Na me: value",
            "Na(me: value",
            "N\xe4me: value",
            "Name: a\x00b",
            "Name: a\x01b",
            "Name: a\x7fb",
            "Name: a\rb",
            "Name: a\nb",
            "Name: a\n",
            "\r\nName: b",
        ],
    )
    def test_a_malformed_line_is_refused(self, line):
        assert status_of(head(line)) == 400

    def test_a_value_may_be_empty_or_beyond_ascii(self):
        request = parse("Empty:", "Name: \xe4\xff")
        assert request.forward == b"Host: a\r\nEmpty:\r\nName: \xe4\xff\r\n"

    def test_fields_are_limited(self):
        parser = RequestParser(fields_max=3)
        assert parser.parse(head("A: 1", "B: 2")).host == b"a"
        with pytest.raises(DownstreamError, match="more than 3 fields") as caught:
            parser.parse(head("A: 1", "B: 2", "C: 3"))
        assert caught.value.status == 431

    def test_bytes_are_limited(self):
        raw = head("A: 1")
        assert RequestParser(head_bytes_max=len(raw)).parse(raw).host == b"a"
        with pytest.raises(DownstreamError) as caught:
            RequestParser(head_bytes_max=len(raw) - 1).parse(raw)
        assert caught.value.status == 431

    def test_empty_lines_in_front_are_skipped(self):
        assert RequestParser().parse(b"\r\n\r\n" + head()).line == b"GET / HTTP/1.1\r\n"


class TestHost:
    @pytest.mark.parametrize(
        "host", ["a", "a.b:80", "[::1]", "[::1]:80", "1.2.3.4", "x_y", "%c3%a4", "a:"]
    )
    def test_a_host_is_a_name_or_an_address(self, host):
        assert parse(f"Host: {host}", host=False).host == host.encode()

    @pytest.mark.parametrize(
        "host", ["", "a b", "a/b", "a@b", "a,b", "a:b", "::1", "[::1", "a:1:2", "%zz", "\xe4"]
    )
    def test_another_host_is_refused(self, host):
        assert status_of(head(f"Host: {host}", host=False)) == 400

    def test_http_1_1_needs_a_host(self):
        assert status_of(head(host=False)) == 400

    def test_two_hosts_are_refused(self):
        assert status_of(head("Host: a")) == 400

    def test_an_absolute_target_overrules_host(self):
        request = parse("A: 1", start="GET HTTP://b:80?q HTTP/1.1")
        assert request.line == b"GET /?q HTTP/1.1\r\n"
        assert request.host == b"b:80"
        assert request.forward == b"Host: b:80\r\nA: 1\r\n"

    def test_the_path_of_an_absolute_target_is_kept(self):
        assert parse(start="GET https://b/c?d HTTP/1.1").target == b"/c?d"
        assert parse(start="GET http://b HTTP/1.1").target == b"/"

    def test_options_may_ask_about_everything(self):
        assert parse(start="OPTIONS * HTTP/1.1").line == b"OPTIONS * HTTP/1.1\r\n"
        assert parse(start="OPTIONS http://b HTTP/1.1").target == b"*"


class TestHttp10:
    def test_goes_upstream_as_http_1_1(self):
        request = parse(start="GET /x HTTP/1.0")
        assert (request.minor, request.line) == (0, b"GET /x HTTP/1.1\r\n")
        assert not request.keep_alive

    def test_keeps_alive_on_request(self):
        assert parse("Connection: Keep-Alive", start="GET / HTTP/1.0").keep_alive
        assert not parse("Connection: keep-alive, close", start="GET / HTTP/1.0").keep_alive

    def test_gets_a_host_where_it_said_none(self):
        parser = RequestParser(default_host=b"lb")
        request = parser.parse(head("A: 1", start="GET / HTTP/1.0", host=False))
        assert request.forward == b"Host: lb\r\nA: 1\r\n"
        assert request.host == b""

    def test_expects_nothing_and_upgrades_to_nothing(self):
        request = parse("Expect: 100-continue", "Content-Length: 1", start="POST / HTTP/1.0")
        assert not request.expect_continue
        assert b"Expect" not in request.forward
        assert not parse(*HANDSHAKE, start="GET / HTTP/1.0").websocket


class TestExpect:
    def test_a_client_may_wait_for_continue(self):
        request = parse("Expect: 100-Continue", "Content-Length: 1", start="POST / HTTP/1.1")
        assert request.expect_continue
        assert request.forward.endswith(b"Expect: 100-continue\r\n")

    def test_without_a_body_there_is_nothing_to_wait_for(self):
        assert not parse("Expect: 100-continue").expect_continue

    def test_other_expectations_fail(self):
        assert status_of(head("Expect: tea")) == 417


class TestMaxForwards:
    @pytest.mark.parametrize(("stated", "passed", "ours"), [("2", b"1", False), ("0", b"0", True)])
    def test_is_counted_down_for_options(self, stated, passed, ours):
        request = parse(f"Max-Forwards: {stated}", start="OPTIONS * HTTP/1.1")
        assert request.forward == b"Host: a\r\nMax-Forwards: " + passed + b"\r\n"
        assert request.is_for_us == ours

    def test_is_passed_on_with_other_methods(self):
        request = parse("Max-Forwards: 0")
        assert request.forward == b"Host: a\r\nMax-Forwards: 0\r\n"
        assert not request.is_for_us

    @pytest.mark.parametrize("lines", [("x",), ("-1",), ("9" * 10,), ("1", "2")])
    def test_is_one_number(self, lines):
        assert status_of(head(*(f"Max-Forwards: {line}" for line in lines))) == 400


@pytest.mark.parametrize("name", ["Content_Length", "TRANSFER_encoding"])
def test_a_name_that_some_take_for_the_framing_is_refused(name):
    assert status_of(head(f"{name}: 5")) == 400


class TestWebSocket:
    def test_a_valid_handshake_is_one(self):
        request = parse(*HANDSHAKE)
        assert request.websocket
        assert request.upgrade_forward == UPGRADE_LINES
        assert b"Upgrade" not in request.forward
        assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in request.forward

    @pytest.mark.parametrize("missing", range(4))
    def test_each_part_is_needed(self, missing):
        request = parse(*(line for n, line in enumerate(HANDSHAKE) if n != missing))
        assert not request.websocket
        assert request.upgrade_forward == b""

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("websocket", "h2c"),
            ("websocket", "websocket, h2c"),
            ("13", "8"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        ],
    )
    def test_another_value_is_none(self, old, new):
        assert not parse(*(line.replace(old, new) for line in HANDSHAKE)).websocket

    def test_only_a_get_without_a_body_opens_one(self):
        assert not parse(*HANDSHAKE, start="POST / HTTP/1.1").websocket
        assert not parse(*HANDSHAKE, "Content-Length: 1").websocket


class TestCookies:
    def test_the_load_balancer_cookie_is_not_forwarded(self):
        request = parse("Cookie: a=1; LB=x=y; b=2", "Cookie: LB=z", "Cookie: c=3;d")
        assert request.lb_cookie == b"x=y"
        assert request.cookies == (b"a=1; b=2", b"c=3;d")
        assert request.forward == b"Host: a\r\nCookie: a=1; b=2\r\nCookie: c=3;d\r\n"

    def test_a_name_that_contains_the_cookies_is_another_cookie(self):
        request = parse("Cookie: xLB=1; LBx=2; lb=3; y=LB")
        assert request.lb_cookie is None
        assert request.cookies == (b"xLB=1; LBx=2; lb=3; y=LB",)

    def test_without_a_load_balancer_cookie_all_pass(self):
        request = RequestParser().parse(head("Cookie: LB=x"))
        assert request.lb_cookie is None
        assert request.cookies == (b"LB=x",)


class TestField:
    def test_finds_any_field_whatever_its_case(self):
        request = parse("X-User:  7 ", "Connection: close")
        assert request.field(b"x-user") == b"7"
        assert request.field(b"connection") == b"close"
        assert request.field(b"host") == b"a"

    def test_joins_repeated_fields(self):
        assert parse("A: 1", "B: 2", "a: 3").field(b"a") == b"1, 3"

    def test_knows_absence_also_when_asked_again(self):
        request = parse()
        assert request.field(b"x-user") is None
        assert request.field(b"x-user") is None


def test_a_head_is_remembered_whole_and_nothing_else_is_taken_for_it() -> None:
    parser = RequestParser()
    whole = head("X: 1")
    assert parser.remembered(whole) is None
    request = parser.parse(whole)
    assert parser.remembered(whole) is request
    assert parser.remembered(whole[:-1]) is None
    assert parser.remembered(whole + whole) is None
    assert parser.remembered(whole + b"x" * KEY_BYTES_MAX) is None
