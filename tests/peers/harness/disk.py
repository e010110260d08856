"""A small disk of its own for one node: a tmpfs in a mount namespace, gone with its holder."""

import os
from pathlib import Path

import pytest

from tests.peers.harness.backends import require
from tests.peers.harness.child import REPOSITORY, Child, wait_until

_PRIVATELY = ("unshare", "--mount", "--propagation", "private")


class SmallDisk:
    """Mounted at `folder`, and seen there by the processes that are started on it alone."""

    def __init__(self, folder: Path, *, size: str) -> None:
        """Mount it; skip the test where that cannot be."""
        require("unshare", "nsenter")
        folder.mkdir(parents=True, exist_ok=True)
        mount = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec sleep infinity'
        self._holder = Child(
            "disk",
            [*_PRIVATELY, "sh", "-c", mount, "sh", size, str(folder)],
            folder.parent / "disk.log",
        )
        self._holder.start()
        wait_until(
            lambda: not self._holder.is_running or "mounted" in self._holder.output(), "the mount"
        )
        if not self._holder.is_running:
            pytest.skip(f"no disk can be mounted here: {self._holder.output().strip()}")
        self.path = Path(f"/proc/{self._holder.pid}/root{folder}")
        """The disk as this process sees it."""
        self._filler = self.path / "filler"

    def use(self, child: Child) -> None:
        """Have `child` see the disk from its next start on."""
        child.start_by(
            "nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wdns={REPOSITORY}"
        )

    def fill(self) -> None:
        """Leave no room."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        """Give the room back."""
        os.unlink(self._filler)
