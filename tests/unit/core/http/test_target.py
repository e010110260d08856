"""Request lines: usual, unusual, and refused."""

import pytest

from meshlb.core.http.target import RequestLine, is_host, origin_line, parse_unusual_line
from meshlb.errors import DownstreamError


def unusual(start: str) -> RequestLine:
    head = f"{start}\r\nHost: a\r\n\r\n".encode("latin-1")
    assert origin_line(head) is None
    return parse_unusual_line(head)


def status_of(start: str) -> int:
    with pytest.raises(DownstreamError) as caught:
        unusual(start)
    return caught.value.status


@pytest.mark.parametrize("target", ["/", "/a?b", "//a", "/a;b=c", "/%zz", "/?{|}^`\\[]", "/*"])
def test_origin_form_is_the_usual_one(target):
    match = origin_line(f"GET {target} HTTP/1.1\r\n".encode())
    assert match is not None
    assert match.groups() == (b"GET", target.encode(), b"1")


@pytest.mark.parametrize(
    ("start", "target", "host"),
    [
        ("GET http://b HTTP/1.1", b"/", b"b"),
        ("GET HTTPS://b:80/c?d HTTP/1.1", b"/c?d", b"b:80"),
        ("GET http://[::1]?d HTTP/1.0", b"/?d", b"[::1]"),
        ("OPTIONS * HTTP/1.1", b"*", None),
        ("OPTIONS http://b HTTP/1.1", b"*", b"b"),
        ("OPTIONS http://b/ HTTP/1.1", b"/", b"b"),
        ("\r\n\r\nGET /a HTTP/1.1", b"/a", None),
    ],
)
def test_other_forms_become_origin_form(start, target, host):
    line = unusual(start)
    assert (line.target, line.host) == (target, host)
    assert line.size_bytes == len(start) + 2
    assert line.minor == int(start[-1])


@pytest.mark.parametrize(
    "start",
    [
        "",
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.1\n",
        "\nGET / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\xe4 HTTP/1.1",
        "GET /# HTTP/1.1",
        'GET /"<> HTTP/1.1',
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://user@a/ HTTP/1.1",
        "GET http://a/# HTTP/1.1",
    ],
)
def test_a_malformed_request_line_is_refused(start):
    assert status_of(start) == 400


@pytest.mark.parametrize("start", ["GET / HTTP/1.2", "GET / HTTP/2.0", "PRI * HTTP/2.0"])
def test_another_version_is_refused(start):
    assert status_of(start) == 505


def test_connect_is_refused():
    assert status_of("CONNECT a:443 HTTP/1.1") == 405


@pytest.mark.parametrize("host", [b"a", b"a:", b"a:65535", b"[::ffff:1.2.3.4]:1", b"a_b-c.~!"])
def test_a_host_is_a_name_or_an_address(host):
    assert is_host(host)


@pytest.mark.parametrize("host", [b"", b":80", b"a:123456", b"[]", b"a[b]", b"a\\b", b"a#"])
def test_anything_else_is_no_host(host):
    assert is_host(host) is None
