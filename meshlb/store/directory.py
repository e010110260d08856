"""The directory of a node's store: the configured one, or a temporary one that ends with the node.

Owns who removes a temporary one: the process that is the node last, for one that is upgraded
leaves it to the next. Must not know what is in it.
"""

import shutil
import tempfile
from pathlib import Path

from meshlb.errors import StoreError


class StoreDirectory:
    """Of one process.

    Attributes:
        path: where it is.
        is_temporary: whether it ends with the node.
    """

    def __init__(self, configured: Path | None, *, inherited: Path | None = None) -> None:
        """Find or make it.

        Args:
            configured: where it shall be; None: in a temporary place.
            inherited: that of the process before this one, which may go on there until `own`.

        Raises:
            StoreError: no temporary one can be made.
        """
        self.is_temporary = configured is None
        self._is_ours = inherited is None
        self.path = configured or inherited or _make()

    def own(self) -> None:
        """The process before this one is not the node any more."""
        self._is_ours = True

    def hand_over(self) -> None:
        """Another process owns it."""
        self._is_ours = False

    def close(self) -> None:
        """The process ends."""
        if self.is_temporary and self._is_ours:
            shutil.rmtree(self.path, ignore_errors=True)


def _make() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="meshlb-"))
    except OSError as error:
        reason = f"a temporary directory cannot be made: {error.strerror}"
        raise StoreError(f"{reason}; set node.data_dir") from error
