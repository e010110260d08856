"""What a node keeps of the operators' words on backends between two starts.

Owns the file `overrides` in `data_dir`. Must not know which of two words stays: that is the
business of `meshlb.cluster.overrides`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from meshlb.errors import WireError
from meshlb.store.cluster_file import NO_CLUSTER, ClusterFile
from meshlb.wire.codec import decode, encode
from meshlb.wire.messages import BackendOverride
from meshlb.wire.seal import ClusterLabel

NAME: Final = "overrides"


class OverridesFile:
    """The words in `data_dir`; without one, nothing outlasts the process."""

    def __init__(self, data_dir: Path | None = None, label: ClusterLabel = NO_CLUSTER) -> None:
        self._file = ClusterFile(data_dir, NAME, label)

    def load(self) -> tuple[BackendOverride, ...]:
        """What was saved last; nothing where that was another cluster's.

        Raises:
            StoreError: the file cannot be read, or is damaged.
        """
        content = self._file.load()
        if content is None:
            return ()
        try:
            words = decode(content)
        except WireError as error:
            raise self._file.damaged(
                str(error),
                "move it away: the other nodes repeat what operators have said of backends",
            ) from error
        return tuple(word for word in words if isinstance(word, BackendOverride))

    def save(self, words: Iterable[BackendOverride]) -> None:
        """Keep `words`, at most one batch of them, in the place of what was there.

        Raises:
            StoreError: the file cannot be written; the old one stays.
        """
        self._file.save(encode(words))
