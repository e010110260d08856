r"""Field blocks: one whitelist validates all lines, one search finds those that matter to a proxy.

Owns the grammar of field lines (RFC 9112 section 5, without obs-fold, bare CR or LF, or control
characters) and the split of a block into what is forwarded as it came and what was looked for.
What a field means is for `request` and `response`; who is at fault is for the `Fault` they pass.

A *block* is everything after the start line, from that line's LF up to and including the empty
line: `\nHost: a\r\n\r\n`. With the LF in front, each line begins behind an LF.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshlb.errors import DownstreamError, MeshlbError, UpstreamError

TOKEN_CHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE_CHAR = rb"[\t\x20-\x7e\x80-\xff]"

FIELDS_MAX = 100
"""Field lines in a head, unless the caller sets another limit."""

_is_block = re.compile(rb"\n(?>" + TOKEN_CHAR + rb"++:" + VALUE_CHAR + rb"*+\r\n)*+\r\n").fullmatch
is_field_line = re.compile(TOKEN_CHAR + rb"++:" + VALUE_CHAR + rb"*+").fullmatch

Found = dict[bytes, list[bytes]]
"""Values by lower-case name, in the order of their lines, without the space around them."""

Fault = Callable[[int, str], MeshlbError]
"""Makes the error for a violation, from the status and the reason a client would be told."""


def client_fault(status: int, reason: str) -> MeshlbError:
    """The violation is in a request."""
    return DownstreamError(status, reason)


def backend_fault(status: int, reason: str) -> MeshlbError:
    """The violation is in a response: the client gets 502, whatever its kind."""
    return UpstreamError(502, f"invalid response: {reason}")


@dataclass(frozen=True, slots=True)
class FieldFilter:
    """What to look for in a block, and which of it is not forwarded as it came.

    Attributes:
        pattern: finds the lines of interest in a lower-cased block; made by `field_pattern`.
        passed: names that are noted and also forwarded in place. All others found are dropped.
    """

    pattern: re.Pattern[bytes]
    passed: frozenset[bytes]

    def split(self, block: bytes) -> tuple[Found, bytes]:
        """The values that were found in a valid `block`, and the lines to forward."""
        found: Found = {}
        passed = self.passed
        kept = []
        start = 1
        for match in self.pattern.finditer(block.lower()):
            name = match[1]
            begin, end = match.span(2)
            value = block[begin:end].rstrip(b" \t")
            if name in found:
                found[name].append(value)
            else:
                found[name] = [value]
            if name not in passed:
                kept.append(block[start : match.start(1)])
                start = end + 2
        kept.append(block[start:-2])
        return found, b"".join(kept)


def field_pattern(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """A pattern for the lines whose lower-case name matches one of `names`, regexes themselves."""
    return re.compile(rb"\n(" + b"|".join(names) + rb"):[ \t]*+([^\r]*+)\r")


def check_block(block: bytes, *, fields_max: int, too_many: int, fault: Fault) -> None:
    """Refuse a block with an invalid line, or with more than `fields_max` lines.

    Raises:
        MeshlbError: what `fault` makes; status 400, or `too_many` for the limit.
    """
    if block.count(b"\n") - 2 > fields_max:
        raise fault(too_many, f"more than {fields_max} fields")
    if _is_block(block) is None:
        raise fault(400, "a field line is malformed")


def without_fields(lines: bytes, names: Iterable[bytes]) -> bytes:
    """Valid field lines less those with one of the lower-case `names`. Slow path."""
    dropped = frozenset(names)
    kept = [
        line for line in lines.split(b"\r\n")[:-1] if line.partition(b":")[0].lower() not in dropped
    ]
    return b"".join(line + b"\r\n" for line in kept)


def combined(block: bytes, name: bytes) -> bytes | None:
    """The value of the field with the lower-case `name`; of several, joined by a comma and space.

    None where there is none. Slow path: reads all lines of a valid block.
    """
    values = []
    for line in block[1:-4].split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            values.append(value.strip(b" \t"))
    return b", ".join(values) if values else None


def list_items(values: Iterable[bytes]) -> list[bytes]:
    """The items of a comma-separated list over several fields, lower-case, empty ones left out."""
    items = [item.strip(b" \t") for item in b",".join(values).lower().split(b",")]
    return [item for item in items if item]
