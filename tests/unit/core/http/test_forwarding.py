"""For whom a request is made: said by whom, and believed of whom."""

from ipaddress import ip_network

import pytest

from meshlb.core.http import forwarding
from meshlb.core.http.forwarding import Forwarding
from meshlb.core.http.request import RequestHead, RequestParser
from tests.native import of_the_source

PROXY = b"10.0.0.9"
STRANGER = b"203.0.113.7"


def request(*lines: str, host: str = "shop.example:8080") -> RequestHead:
    every = ("GET / HTTP/1.1", f"Host: {host}", *lines, "", "")
    return RequestParser().parse("\r\n".join(every).encode())


def trusting() -> Forwarding:
    return Forwarding([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


OWN = (
    b"X-Forwarded-For: 203.0.113.7\r\n"
    b"X-Forwarded-Proto: http\r\n"
    b"X-Forwarded-Host: shop.example:8080\r\n"
)


def test_a_client_is_described():
    assert Forwarding().lines(STRANGER, request()) == OWN


def test_tls_is_https():
    lines = Forwarding(secure=True).lines(STRANGER, request())
    assert b"X-Forwarded-Proto: https\r\n" in lines


def test_a_host_is_not_taken_from_another_request():
    writer = Forwarding()
    assert b"Host: a\r\n" in writer.lines(STRANGER, request(host="a"))
    assert b"Host: b\r\n" in writer.lines(STRANGER, request(host="b"))


@pytest.mark.parametrize("writer", [Forwarding(), trusting()])
def test_a_stranger_is_not_believed(writer):
    claims = request("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "Forwarded: for=x")
    assert writer.lines(STRANGER, claims) == OWN
    assert writer.origin(STRANGER, claims) == STRANGER


def test_a_trusted_proxy_is_appended_to():
    said = request(
        "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443"
    )
    assert trusting().lines(PROXY, said) == (
        b"X-Forwarded-For: 203.0.113.7, 10.0.0.9\r\n"
        b"X-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Port: 443\r\n"
        b"X-Forwarded-Host: shop.example:8080\r\n"
    )


def test_forwarded_of_a_trusted_proxy_is_appended_to():
    lines = trusting().lines(b"fd00::1", request("Forwarded: for=203.0.113.7;proto=https"))
    assert b'Forwarded: for=203.0.113.7;proto=https, for="[fd00::1]"\r\n' in lines
    assert b"X-Forwarded-For: fd00::1\r\n" in lines


def test_a_trusted_proxy_that_says_nothing_is_a_client():
    lines = trusting().lines(PROXY, request())
    assert lines.startswith(b"X-Forwarded-For: 10.0.0.9\r\n")


def test_an_ipv4_client_on_an_ipv6_socket_is_known_again():
    assert trusting().is_trusted(b"::ffff:10.0.0.9")
    assert not trusting().is_trusted(b"::ffff:203.0.113.7")


@pytest.mark.parametrize("client", [b"", b"unix", b"\xff"])
def test_what_is_no_address_is_not_trusted(client):
    assert not trusting().is_trusted(client)


@pytest.mark.parametrize(
    ("stated", "origin"),
    [
        ("1.1.1.1, 203.0.113.7, 10.1.1.1", b"203.0.113.7"),
        ("203.0.113.7", b"203.0.113.7"),
        ("10.1.1.1, 10.2.2.2", b"10.1.1.1"),
        ("203.0.113.7, unknown, 10.1.1.1", b"10.1.1.1"),
        ("", PROXY),
    ],
)
def test_the_origin_is_the_last_that_a_trusted_proxy_vouches_for(stated, origin):
    assert trusting().origin(PROXY, request(f"X-Forwarded-For: {stated}")) == origin


@of_the_source
def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(forwarding, "CLIENTS_MAX", 3)
    writer = trusting()
    said = request("X-Forwarded-For: 1.1.1.1")
    plain = request()
    for n in range(20):
        client = b"203.0.113.%d" % n
        assert writer.lines(client, said) == writer.lines(client, plain)
        assert client in writer.lines(client, plain)
    assert len(writer._lines) <= 3
    assert len(writer._trusts) <= 3
