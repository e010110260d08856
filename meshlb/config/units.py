"""Durations and sizes as people write them in the configuration.

Owns the two little notations and nothing else; it does not know which option uses them.
Contract: "Sizes: `B KiB MiB`. Durations: `ms s m h d`."
"""

import re
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}

_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,12})\s*(B|KiB|MiB)", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `250ms`, `1.5s`, `20m`, `12h` or `7d`.

    Raises:
        ValueError: if `text` is anything else; a bare number has no unit and is refused.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration: a number and one of ms, s, m, h, d")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes in a size such as `512B`, `32KiB` or `1MiB`.

    Raises:
        ValueError: if `text` is anything else; a bare number has no unit and is refused.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: a whole number and one of B, KiB, MiB")
    return int(match[1]) * _BYTES[match[2]]


def show_duration(seconds: float) -> str:
    """The shortest way to write `seconds` with one unit; the inverse of `parse_duration`."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{round(seconds * 1_000)}ms"


def show_size(size_bytes: int) -> str:
    """The shortest way to write `size_bytes` with one unit; the inverse of `parse_size`."""
    for unit in ("MiB", "KiB"):
        if size_bytes and size_bytes % _BYTES[unit] == 0:
            return f"{size_bytes // _BYTES[unit]}{unit}"
    return f"{size_bytes}B"
