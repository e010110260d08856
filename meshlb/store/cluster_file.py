"""A file in `data_dir` that belongs to one cluster, such as its secrets or its operators' words.

Owns the frame around the content: what kind of file it is, and whose. A node that was moved to
another cluster must not bring along what was said in the old one. Must not know the content.
"""

from pathlib import Path
from typing import Final

import structlog

from meshlb.errors import StoreError
from meshlb.store.private import read_private, write_private
from meshlb.wire.seal import CLUSTER_LABEL_BYTES, ClusterLabel

NO_CLUSTER: Final = ClusterLabel(bytes(CLUSTER_LABEL_BYTES))
"""The label of a node that stands alone."""

_log = structlog.get_logger(__name__)


class ClusterFile:
    """One file; without a `data_dir`, nothing outlasts the process."""

    def __init__(self, data_dir: Path | None, name: str, label: ClusterLabel) -> None:
        self._path = None if data_dir is None else data_dir / name
        self._magic = f"meshlb {name} 1\n".encode()
        self._label = label

    def load(self) -> bytes | None:
        """The content saved last; None where that is nothing, or another cluster's.

        Raises:
            StoreError: the file cannot be read; the content of what is no such file is `b""`.
        """
        framed = None if self._path is None else read_private(self._path)
        if framed is None:
            return None
        start = len(self._magic) + CLUSTER_LABEL_BYTES
        if not framed.startswith(self._magic) or len(framed) < start:
            return b""
        if framed[len(self._magic) : start] != self._label:
            _log.warning("a file of another cluster is ignored", path=str(self._path))
            return None
        return framed[start:]

    def save(self, content: bytes) -> None:
        """Keep `content` in the place of what was there.

        Raises:
            StoreError: the file cannot be written; the old one stays.
        """
        if self._path is not None:
            write_private(self._path, self._magic + self._label + content)

    def damaged(self, reason: str, remedy: str) -> StoreError:
        """What to raise where the content makes no sense; `remedy` says what to do."""
        return StoreError(f"{self._path} is damaged ({reason}); {remedy}")
