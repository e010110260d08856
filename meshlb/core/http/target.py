"""The request line: method, target and version (RFC 9112 section 3).

Owns which targets a gateway takes and how they go upstream: always in origin form. Origin form
is matched by `origin_line` right away; everything else ends here, as a rewritten line or as an
error. It must not know fields, but for one: a target in absolute form overrules Host.
"""

import re
from dataclasses import dataclass
from typing import Final

from meshlb.core.http.fields import TOKEN_CHAR
from meshlb.errors import DownstreamError

_TARGET_CHAR = rb"[!$-;=?-~]"
"""VCHAR less `"`, `#`, `<` and `>`, which no client may send in a target; others of RFC 3986's
forbidden characters (`|`, `{`, `^` …) are what browsers do send in a query."""

origin_line: Final = re.compile(
    rb"(" + TOKEN_CHAR + rb"++) (/" + _TARGET_CHAR + rb"*+) HTTP/1\.([01])\r\n"
).match
"""Matches a request line in origin form at the start of a head: method, target, minor version."""

_any_line = re.compile(
    rb"(?:\r\n)*+(" + TOKEN_CHAR + rb"++) ([!-~]++) HTTP/([0-9])\.([0-9])\r\n"
).match
_absolute_form = re.compile(
    rb"(?i:https?)://([^/?]++)((?:[/?]" + _TARGET_CHAR + rb"*+)?)"
).fullmatch

is_host: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})++|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?+"
).fullmatch
"""Matches `uri-host [ ":" port ]` (RFC 3986 3.2), as it stands in Host. A comma, though a
reg-name might have one, is left out: it would read as a list of two hosts."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A request line in another form than origin form, rewritten.

    Attributes:
        size_bytes: how much of the head it took, with empty lines in front and its CRLF.
        method: as it came.
        target: the target in origin form, or `*`.
        minor: the minor version.
        host: what an absolute-form target said; None: Host decides.
    """

    size_bytes: int
    method: bytes
    target: bytes
    minor: int
    host: bytes | None


def parse_unusual_line(head: bytes) -> RequestLine:
    """Read a request line that `origin_line` did not match.

    Raises:
        DownstreamError: 400, 405 for CONNECT, 505 for another version of HTTP.
    """
    match = _any_line(head)
    if match is None:
        raise DownstreamError(400, "the request line is malformed")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise DownstreamError(505, "this is a gateway for HTTP/1.0 and HTTP/1.1")
    if method == b"CONNECT":
        raise DownstreamError(405, "CONNECT is for forward proxies")
    target, host = _to_origin_form(method, target)
    return RequestLine(match.end(), method, target, int(minor), host)


def _to_origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    if target == b"*" and method == b"OPTIONS":
        return target, None
    if re.fullmatch(rb"/" + _TARGET_CHAR + rb"*+", target):
        return target, None
    match = _absolute_form(target)
    if match is None:
        raise DownstreamError(400, "the request target is malformed")
    host, path = match.groups()
    if is_host(host) is None:
        raise DownstreamError(400, "the host in the request target is malformed")
    if not path:
        return (b"*" if method == b"OPTIONS" else b"/"), host
    return (path if path.startswith(b"/") else b"/" + path), host
