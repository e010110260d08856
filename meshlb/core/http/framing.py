"""How a message says where its body ends (RFC 9112 section 6), without any second opinion.

Owns the meaning of Content-Length and Transfer-Encoding. Two parties that disagree on the end of
a body are how requests are smuggled, so whatever is stated twice, in a list, or in both ways is
refused, also where the RFC would let a recipient pick one reading.
"""

import enum
from dataclasses import dataclass
from typing import Final

from meshlb.core.http.fields import Fault, Found

LENGTH_DIGITS_MAX = 18
"""Keeps a Content-Length below 2**63, the least that any implementation counts to."""


class BodyKind(enum.IntEnum):
    """How the end of a body is known."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3
    """The end of the connection; responses only."""


NONE: Final[BodyKind] = BodyKind.NONE
LENGTH: Final[BodyKind] = BodyKind.LENGTH
CHUNKED: Final[BodyKind] = BodyKind.CHUNKED
CLOSE: Final[BodyKind] = BodyKind.CLOSE
"""The kinds as globals, for the hot path: looking one up in its class costs ten times as much."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body that follows a head; `length` counts for `LENGTH` alone, and is not 0 there."""

    kind: BodyKind
    length: int = 0


NO_BODY = Body(BodyKind.NONE)
CHUNKED_BODY = Body(BodyKind.CHUNKED)
CLOSE_BODY = Body(BodyKind.CLOSE)


def stated_length(found: Found, fault: Fault) -> int | None:
    """What Content-Length says; None where there is none.

    Raises:
        MeshlbError: what `fault` makes; status 400.
    """
    values = found.get(b"content-length")
    if values is None:
        return None
    if len(values) > 1:
        raise fault(400, "more than one Content-Length")
    value = values[0]
    if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
        raise fault(400, "Content-Length is not a number")
    return int(value)


def is_chunked(found: Found, fault: Fault) -> bool:
    """Whether Transfer-Encoding says `chunked`, which is all it may say.

    Raises:
        MeshlbError: what `fault` makes; status 400, or 501 where only a coding before `chunked` is
            one that we do not know (RFC 9112 sections 6.1 and 6.3).
    """
    values = found.get(b"transfer-encoding")
    if values is None:
        return False
    if len(values) > 1 or b"content-length" in found:
        raise fault(400, "the end of the body is stated more than once")
    if values[0].lower() == b"chunked":
        return True
    *inner, final = (coding.strip(b" \t").lower() for coding in values[0].split(b","))
    if final != b"chunked":
        raise fault(400, "the last transfer coding is not chunked: the body has no known end")
    if not all(inner) or b"chunked" in inner:
        raise fault(400, "Transfer-Encoding is no list of codings with chunked at its end alone")
    raise fault(501, "no transfer coding but chunked is known here")
