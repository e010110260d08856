"""Session keys, from wherever a client carries them."""

import pytest

from meshlb.core.http.request import RequestHead, RequestParser
from meshlb.core.sticky.extract import KeyRule, extract, hash_key
from meshlb.model import KeySource, PoolName

SECRET = bytes(range(32))


def request(target: str = "/", *lines: str) -> RequestHead:
    every = (f"GET {target} HTTP/1.1", "Host: a", *lines, "", "")
    return RequestParser(drop_cookie=b"LB").parse("\r\n".join(every).encode())


def value(by: KeySource, name: str, head: RequestHead | None) -> bytes | None:
    return extract(KeyRule(by, name, ttl_s=60), head, b"192.0.2.1")


class TestHeader:
    def test_its_name_has_no_case(self):
        assert value(KeySource.HEADER, "X-User", request("/", "x-uSER: 7")) == b"7"

    @pytest.mark.parametrize("lines", [(), ("X-User:",)])
    def test_nothing_is_no_key(self, lines):
        assert value(KeySource.HEADER, "X-User", request("/", *lines)) is None


class TestAppCookie:
    def test_its_name_has_a_case(self):
        head = request("/", "Cookie: SID=1; sid=2", "Cookie: sid=3")
        assert value(KeySource.APP_COOKIE, "sid", head) == b"2"

    @pytest.mark.parametrize("cookie", ["sid=", "sid", "xsid=1", "a=sid=1"])
    def test_nothing_is_no_key(self, cookie):
        head = request("/", f"Cookie: {cookie}")
        assert value(KeySource.APP_COOKIE, "sid", head) is None


class TestQuery:
    @pytest.mark.parametrize("query", ["sid=7", "a=1&sid=7", "a&sid=7&sid=8", "&sid=7&", "?&sid=7"])
    def test_the_first_one_counts(self, query):
        assert value(KeySource.QUERY, "sid", request(f"/a;sid=9?{query}")) == b"7"

    @pytest.mark.parametrize("target", ["/sid=7", "/?xsid=7", "/?sid=", "/?a=sid=7", "/?SID=7"])
    def test_nothing_is_no_key(self, target):
        assert value(KeySource.QUERY, "sid", request(target)) is None

    def test_a_name_is_no_pattern(self):
        assert value(KeySource.QUERY, "s.d", request("/?sid=7")) is None


class TestPath:
    @pytest.mark.parametrize("target", ["/a;sid=7", "/a;b=1;sid=7/c;sid=8?x", "/;sid=7?;sid=9"])
    def test_the_first_one_counts(self, target):
        assert value(KeySource.PATH, "sid", request(target)) == b"7"

    @pytest.mark.parametrize("target", ["/a?;sid=7", "/a;sid=", "/a;xsid=7", "/sid=7"])
    def test_nothing_is_no_key(self, target):
        assert value(KeySource.PATH, "sid", request(target)) is None


def test_the_source_address_needs_no_head():
    assert value(KeySource.SOURCE_IP, "", None) == b"192.0.2.1"
    assert extract(KeyRule(KeySource.SOURCE_IP, "", ttl_s=60), None, b"") is None


@pytest.mark.parametrize("by", [by for by in KeySource if by is not KeySource.SOURCE_IP])
def test_a_plain_connection_has_nothing_else(by):
    assert value(by, "x", None) is None


class TestHash:
    def test_is_the_same_on_all_nodes_and_releases(self):
        key = hash_key(SECRET, PoolName("app"), KeySource.HEADER, "X-User", b"7")
        assert key.hex() == "7eda8ee36fa302a22d675222f0944011"
        assert key == hash_key(SECRET, PoolName("app"), KeySource.HEADER, "x-user", b"7")

    def test_differs_in_each_of_its_parts(self):
        parts = [
            (SECRET, "app", KeySource.HEADER, "x", b"7"),
            (SECRET[::-1], "app", KeySource.HEADER, "x", b"7"),
            (SECRET, "ap", KeySource.HEADER, "x", b"7"),
            (SECRET, "app", KeySource.QUERY, "x", b"7"),
            (SECRET, "app", KeySource.HEADER, "y", b"7"),
            (SECRET, "app", KeySource.HEADER, "x", b"8"),
            (SECRET, "app", KeySource.HEADER, "", b"x7"),
            (SECRET, "app", KeySource.APP_COOKIE, "x", b"7"),
            (SECRET, "app", KeySource.APP_COOKIE, "X", b"7"),
        ]
        keys = {hash_key(s, PoolName(pool), by, name, v) for s, pool, by, name, v in parts}
        assert len(keys) == len(parts)
        assert {len(key) for key in keys} == {16}
