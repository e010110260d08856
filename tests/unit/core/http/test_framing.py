"""How long a body is, stated in one way or not at all."""

import pytest

from meshlb.core.http.fields import Found, backend_fault, client_fault
from meshlb.core.http.framing import LENGTH_DIGITS_MAX, is_chunked, stated_length
from meshlb.errors import DownstreamError, UpstreamError


def length(*values: bytes) -> Found:
    return {b"content-length": list(values)}


def coding(*values: bytes) -> Found:
    return {b"transfer-encoding": list(values)}


def test_nothing_stated_is_nothing():
    assert stated_length({}, client_fault) is None
    assert not is_chunked({}, client_fault)


def test_a_length_is_decimal_digits():
    assert stated_length(length(b"0"), client_fault) == 0
    assert stated_length(length(b"007"), client_fault) == 7
    longest = b"9" * LENGTH_DIGITS_MAX
    assert stated_length(length(longest), client_fault) == int(longest) < 2**63


@pytest.mark.parametrize("value", [b"", b"1_0", b"1.0", b"1e3", b"\xb9", b"9" * 19])
def test_anything_else_is_no_length(value):
    with pytest.raises(DownstreamError) as caught:
        stated_length(length(value), client_fault)
    assert caught.value.status == 400


def test_the_only_coding_is_chunked():
    assert is_chunked(coding(b"cHUNKED"), client_fault)


@pytest.mark.parametrize(
    "value",
    [
        b"gzip",
        b"identity",
        b"xchunked",
        b"\x0bchunked",
        b'"chunked"',
        b"chunked;q=1",
        b"chunked, identity",
        b"chunked, gzip",
        b"gzip, chunked,",
        b"",
    ],
)
def test_a_body_whose_last_coding_is_not_chunked_has_no_end_and_is_refused(value):
    with pytest.raises(DownstreamError) as caught:
        is_chunked(coding(value), client_fault)
    assert caught.value.status == 400


@pytest.mark.parametrize("value", [b"gzip, chunked", b"x-new\t,\tCHUNKED", b"a;p=1, b, chunked"])
def test_unknown_codings_before_chunked_are_not_implemented(value):
    with pytest.raises(DownstreamError) as caught:
        is_chunked(coding(value), client_fault)
    assert caught.value.status == 501


@pytest.mark.parametrize("value", [b"chunked, chunked", b", chunked", b"gzip,,chunked"])
def test_chunked_twice_or_an_empty_coding_is_refused(value):
    with pytest.raises(DownstreamError) as caught:
        is_chunked(coding(value), client_fault)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "found",
    [
        coding(b"chunked", b"chunked"),
        coding(b"chunked", b"identity"),
        coding(b"chunked") | length(b"1"),
        coding(b"gzip") | length(b"1"),
    ],
)
def test_saying_it_twice_is_refused(found):
    with pytest.raises(DownstreamError) as caught:
        is_chunked(found, client_fault)
    assert caught.value.status == 400
    with pytest.raises(UpstreamError):
        is_chunked(found, backend_fault)
