"""MessagePack, the part of it that the protocol uses, with every limit checked before its bytes.

Arrays become tuples. What has no place in the protocol but is harmless behind the known fields
of a message (floats, empty maps, empty extensions) is read and given as `OPAQUE`.

Spec: ../spec/messages.md, M5 to M7.
"""

from typing import Any

OPAQUE = object()
"""Stands for a value that no field may have."""

DEPTH_MAX = 64
"""Levels of nesting that every reader reads; the schema needs five."""
_NOTHING_BUT_EMPTY = 0


class Malformed(ValueError):  # noqa: N818 - reads as the verdict that the vectors give
    """Bytes that the specification does not allow."""


class TooDeep(Malformed):
    """Nested deeper than a receiver has to read; another one may accept it."""


class _Reader:
    def __init__(self, encoded: bytes, limits: dict[str, int]) -> None:
        self._encoded = encoded
        self._at = 0
        self._items_max = max(
            limits[name]
            for name in ("messages_per_frame_max", "members_per_message_max", "buckets")
        )
        self._text_bytes_max = limits["name_bytes_max"]
        self._binary_bytes_max = max(
            limits["payload_bytes_max"], limits["run_pins_max"] * limits["packed_pin_bytes"]
        )

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._encoded):
            raise Malformed("truncated")
        taken = self._encoded[self._at : end]
        self._at = end
        return taken

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "big", signed=signed)

    def end(self) -> None:
        if self._at != len(self._encoded):
            raise Malformed("something follows the batch")

    def value(self, depth: int = 0) -> Any:
        if depth > DEPTH_MAX:
            raise TooDeep("nested too deeply")
        kind = self.number(1)
        if kind <= 0x7F:
            return kind
        if kind <= 0x8F:
            return self.empty(kind & 0x0F, "map")
        if kind <= 0x9F:
            return self.array(kind & 0x0F, depth)
        if kind <= 0xBF:
            return self.text(kind & 0x1F)
        if kind >= 0xE0:
            return kind - 0x100
        return self.long(kind, depth)

    def long(self, kind: int, depth: int) -> Any:
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in (0xC4, 0xC5, 0xC6):
            return self.binary(self.number(1 << kind - 0xC4))
        if kind in (0xC7, 0xC8, 0xC9):
            return self.extension(self.number(1 << kind - 0xC7))
        if kind in (0xCA, 0xCB):
            self.take(4 << kind - 0xCA)
            return OPAQUE
        if 0xCC <= kind <= 0xCF:
            return self.number(1 << kind - 0xCC)
        if 0xD0 <= kind <= 0xD3:
            return self.number(1 << kind - 0xD0, signed=True)
        if 0xD4 <= kind <= 0xD8:
            return self.extension(1 << kind - 0xD4)
        if kind in (0xD9, 0xDA, 0xDB):
            return self.text(self.number(1 << kind - 0xD9))
        if kind in (0xDC, 0xDD):
            return self.array(self.number(2 << kind - 0xDC), depth)
        if kind in (0xDE, 0xDF):
            return self.empty(self.number(2 << kind - 0xDE), "map")
        raise Malformed("a byte that MessagePack never uses")

    def array(self, count: int, depth: int) -> tuple[Any, ...]:
        if count > self._items_max:
            raise Malformed(f"an array of {count}")
        return tuple([self.value(depth + 1) for _ in range(count)])

    def text(self, size: int) -> str:
        if size > self._text_bytes_max:
            raise Malformed(f"a string of {size} bytes")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise Malformed("a string that is no UTF-8") from error

    def binary(self, size: int) -> bytes:
        if size > self._binary_bytes_max:
            raise Malformed(f"{size} bytes")
        return self.take(size)

    def extension(self, size: int) -> object:
        self.empty(size, "extension")
        if self.number(1, signed=True) < 0:
            raise Malformed("an extension that MessagePack keeps for itself")
        return OPAQUE

    def empty(self, size: int, kind: str) -> object:
        if size > _NOTHING_BUT_EMPTY:
            raise Malformed(f"a {kind} that is not empty")
        return OPAQUE


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(encoded: bytes, limits: dict[str, int]) -> Any:
    """The one value that `encoded` is, within the limits of `messages.toml`.

    Raises:
        Malformed: where it is not.
    """
    reader = _Reader(encoded, limits)
    value = reader.value()
    reader.end()
    return value
