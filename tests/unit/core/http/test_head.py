"""Where a head ends, however it arrives."""

import pytest

from meshlb.core.http.fields import backend_fault
from meshlb.core.http.head import EMPTY_LINES_MAX, find_head_end
from meshlb.errors import DownstreamError, UpstreamError

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_finds_the_end_and_leaves_what_follows():
    assert find_head_end(HEAD) == len(HEAD)
    assert find_head_end(HEAD + b"rest\r\n\r\n") == len(HEAD)


@pytest.mark.parametrize("size", range(len(HEAD)))
def test_waits_for_the_rest(size):
    assert find_head_end(HEAD[:size]) == -1


@pytest.mark.parametrize("empty_lines", [1, 2, 3])
def test_empty_lines_in_front_end_nothing(empty_lines):
    front = b"\r\n" * empty_lines
    assert find_head_end(front) == -1
    assert find_head_end(front + HEAD) == len(front + HEAD)


def test_empty_lines_are_limited():
    assert find_head_end(b"\r\n" * EMPTY_LINES_MAX + HEAD) == 2 * EMPTY_LINES_MAX + len(HEAD)
    with pytest.raises(DownstreamError) as caught:
        find_head_end(b"\r\n" * (EMPTY_LINES_MAX + 1))
    assert caught.value.status == 400


def test_a_bare_lf_is_refused_without_waiting():
    with pytest.raises(DownstreamError) as caught:
        find_head_end(b"GET / HTTP/1.1\n")
    assert caught.value.status == 400
    with pytest.raises(DownstreamError):
        find_head_end(b"GET / HTTP/1.1\r\nHost: a\n\n", scanned=20)


def test_the_limit_counts_to_the_last_byte():
    assert find_head_end(HEAD, limit=len(HEAD)) == len(HEAD)
    assert find_head_end(HEAD[:-2], limit=len(HEAD)) == -1
    for arrived in (HEAD, HEAD[:-1]):
        with pytest.raises(DownstreamError) as caught:
            find_head_end(arrived, limit=len(HEAD) - 1)
        assert caught.value.status == 431


def test_a_backends_head_is_the_backends_fault():
    with pytest.raises(UpstreamError):
        find_head_end(b"HTTP/1.1 200 OK\n", fault=backend_fault)


@pytest.mark.parametrize("front", [b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"])
def test_a_head_may_come_byte_by_byte(front):
    stream = front + HEAD
    for size in range(1, len(stream)):
        assert find_head_end(stream[:size], scanned=size - 1) == -1
    assert find_head_end(stream, scanned=len(stream) - 1) == len(stream)


def test_a_bare_lf_is_noticed_byte_by_byte():
    begun = b"GET / HTTP/1.1\r\n"
    for size in range(1, len(begun) + 1):
        assert find_head_end(begun[:size], scanned=size - 1) == -1
    with pytest.raises(DownstreamError):
        find_head_end(begun + b"\n", scanned=len(begun))
