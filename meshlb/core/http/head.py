"""Finding the end of a head in what has arrived so far, without scanning any byte twice.

Owns the rule for when to wait for more and when to give up: a head over the limit, or one with a
bare LF, is refused at once instead of being waited for. What the head says is not looked at here.
"""

from typing import Final

from meshlb.core.http.fields import Fault, client_fault

HEAD_BYTES_MAX: Final = 32 << 10
"""The largest head, unless the caller sets another limit."""

EMPTY_LINES_MAX: Final = 8
"""Empty lines in front of a head; one is usual, from clients that end a body with one."""

_END: Final = b"\r\n\r\n"
_CR: Final = 13
_TOO_MANY_EMPTY_LINES: Final = b"\r\n" * (EMPTY_LINES_MAX + 1)


def find_head_end(
    buffer: bytes | bytearray,
    *,
    limit: int = HEAD_BYTES_MAX,
    scanned: int = 0,
    fault: Fault = client_fault,
) -> int:
    """The length of the head that `buffer` begins with; -1 where it is not complete yet.

    Empty lines in front (RFC 9112 2.2) count as a part of the head.

    Args:
        buffer: what has arrived.
        limit: how long a head may be.
        scanned: how much of `buffer` an earlier call has seen.
        fault: makes the error.

    Raises:
        MeshlbError: what `fault` makes; status 431 over the limit, 400 for a bare LF or too many
            empty lines.
    """
    found = buffer.find(_END, scanned - 3 if scanned > 3 else 0)
    if found >= 0 and buffer[0] == _CR:
        if buffer.startswith(_TOO_MANY_EMPTY_LINES):
            raise fault(400, "empty lines instead of a head")
        empty_lines = len(buffer) - len(buffer.lstrip(b"\r\n"))
        found = buffer.find(_END, max(empty_lines, scanned - 3))
    if found >= 0:
        if found + 4 > limit:
            raise fault(431, f"the head is longer than {limit} bytes")
        return found + 4
    if len(buffer) >= limit:
        raise fault(431, f"the head is longer than {limit} bytes")
    if buffer.count(b"\n", scanned) != buffer.count(b"\r\n", max(scanned - 1, 0)):
        raise fault(400, "a line of the head ends in a bare LF")
    return -1
