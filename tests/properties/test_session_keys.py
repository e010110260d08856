"""Session keys are found where they are, whatever stands around them."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlb.core.http.cookies import find_cookie, take_cookie
from meshlb.core.http.request import RequestParser
from meshlb.core.sticky.cookie import CookieSealer, LbCookie
from meshlb.core.sticky.extract import KeyRule, extract
from meshlb.model import BackendName, KeySource, PoolName, SessionKey

SECRET = b"s" * 32

words = st.text("abc.%-_", max_size=3)
parameters = st.lists(st.tuples(words, words), max_size=6)
names = words.filter(bool)


def find(by: KeySource, name: str, target: str, *lines: str) -> bytes | None:
    every = (f"GET {target} HTTP/1.1", "Host: a", *lines, "", "")
    head = RequestParser().parse("\r\n".join(every).encode())
    return extract(KeyRule(by, name, ttl_s=1), head, b"")


def first(pairs: list[tuple[str, str]], name: str) -> bytes | None:
    return next((value.encode() for key, value in pairs if key == name and value), None)


@settings(max_examples=200, deadline=None)
@given(parameters, names, words)
def test_a_query_parameter_is_the_first_of_its_name(pairs, name, path):
    query = "&".join(f"{key}={value}" for key, value in pairs)
    assert find(KeySource.QUERY, name, f"/{path}?{query}") == first(pairs, name)


@settings(max_examples=200, deadline=None)
@given(parameters, names, words)
def test_a_path_parameter_is_the_first_of_its_name(pairs, name, query):
    path = "".join(f";{key}={value}" for key, value in pairs)
    assert find(KeySource.PATH, name, f"/a{path}?;{name}={query}") == first(pairs, name)


@settings(max_examples=200, deadline=None)
@given(parameters, names)
def test_an_application_cookie_is_the_first_of_its_name(pairs, name):
    cookie = "; ".join(f"{key}={value}" for key, value in pairs)
    found = find(KeySource.APP_COOKIE, name, "/", f"Cookie: {cookie}")
    stated = next((value.encode() for key, value in pairs if key == name), None)
    assert found == (stated or None)


@settings(max_examples=200, deadline=None)
@given(st.lists(parameters, max_size=3), names)
def test_taking_a_cookie_out_leaves_the_others_as_they_were(fields, name):
    values = ["; ".join(f"{k}={v}" for k, v in pairs).encode() for pairs in fields]
    taken, left = take_cookie(values, name.encode())
    assert taken == find_cookie(values, name.encode())
    assert find_cookie(left, name.encode()) is None
    others = [f"{k}={v}".encode() for pairs in fields for k, v in pairs if k != name]
    assert [pair for pair in re.split(rb"; ", b"; ".join(left)) if pair] == others


contents = st.builds(
    LbCookie,
    key=st.binary(min_size=16, max_size=16).map(SessionKey),
    backend=st.from_regex(r"\A[A-Za-z0-9._-]{1,63}\Z").map(BackendName),
    epoch=st.integers(0, 2**32 - 1),
    made_at=st.integers(0, 2**32 - 1),
    refreshed_at=st.integers(0, 2**32 - 1),
)


def sealer(secret: bytes = SECRET) -> CookieSealer:
    return CookieSealer([secret], pool=PoolName("app"), name="LB")


@settings(max_examples=100, deadline=None)
@given(contents, st.binary(min_size=12, max_size=12))
def test_a_sealed_cookie_opens_as_it_was(content, nonce):
    value = sealer().seal(content, nonce)
    assert sealer().open(value) == content
    assert sealer(b"t" * 32).open(value) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120) | st.from_regex(rb"\A[A-Za-z0-9_-]{50,120}\Z"))
def test_what_was_not_sealed_does_not_open(value):
    assert sealer().open(value) is None
