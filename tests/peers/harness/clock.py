"""A wall clock of its own for one process, by libfaketime; the monotonic clock stays the machine's.

The library reads the offset from a file, so that the clock can jump while the process runs.
"""

import os
from pathlib import Path

import pytest

from tests.peers.harness.child import Child

_PLACES = ("/usr/lib/{arch}/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")
_NAME = "libfaketime.so.1"


class FakeClock:
    """The clock of the children that use it."""

    def __init__(self, file: Path, *, ahead_s: float = 0.0) -> None:
        """Skip the test where libfaketime is missing."""
        self._file = file
        self._library = _library()
        self.set(ahead_s)

    def use(self, child: Child) -> None:
        """Have `child` go by this clock from its next start on."""
        child.set_environment(
            LD_PRELOAD=str(self._library),
            FAKETIME_TIMESTAMP_FILE=str(self._file),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            NO_FAKE_STAT="1",
        )

    def set(self, ahead_s: float) -> None:
        """Jump: from now on the clock is so far ahead of the machine's."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{ahead_s:+.0f}\n")
        draft.replace(self._file)


def _library() -> Path:
    arch = f"{os.uname().machine}-linux-gnu"
    for place in _PLACES:
        path = Path(place.format(arch=arch)) / _NAME
        if path.exists():
            return path
    pytest.skip("libfaketime is not installed")
