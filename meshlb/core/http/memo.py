"""A bounded memo for what was parsed: heads repeat, on a keep-alive connection nearly always.

Owns the bounds. When a memo is full it forgets everything, which costs a parse for each key that
comes back and needs no bookkeeping at a hit.
"""

from typing import Final, Generic, TypeVar

V = TypeVar("V")

KEY_BYTES_MAX: Final = 2 << 10
"""Longer keys are rare, and dear to keep."""

ENTRIES_MAX: Final = 4096
BYTES_MAX: Final = 2 << 20
"""Bytes of keys that a memo holds."""


class Memo(dict[bytes, V], Generic[V]):
    """A dict from bytes, read with `get`, written with `keep` alone."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def keep(self, key: bytes, value: V) -> None:
        """Remember `value` for `key`, unless the key is too long."""
        size_bytes = len(key)
        if size_bytes > KEY_BYTES_MAX:
            return
        if len(self) >= ENTRIES_MAX or self._bytes + size_bytes > BYTES_MAX:
            self.clear()
            self._bytes = 0
        self[key] = value
        self._bytes += size_bytes
