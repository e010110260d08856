"""What a node keeps of its cluster's secrets between two starts.

Owns the file `keyring` in `data_dir`. Must not know what the words in it mean: `core.keyring`
merges them with the configuration. The file is bound to the cluster by its label, because the
words of another cluster would open this one to it.
"""

from pathlib import Path
from typing import Final

from meshlb.errors import WireError
from meshlb.store.cluster_file import ClusterFile
from meshlb.wire.codec import record_codec
from meshlb.wire.key_words import KeyringState
from meshlb.wire.seal import ClusterLabel

NAME: Final = "keyring"

_pack, _unpack = record_codec(KeyringState)


class KeyringFile:
    """The keyring in `data_dir`; without one, nothing outlasts the process."""

    def __init__(self, data_dir: Path | None, label: ClusterLabel) -> None:
        self._file = ClusterFile(data_dir, NAME, label)

    def load(self) -> KeyringState | None:
        """What was saved last; None where that is nothing, or another cluster's.

        Raises:
            StoreError: the file cannot be read, or is damaged.
        """
        content = self._file.load()
        if content is None:
            return None
        try:
            state: KeyringState = _unpack(content)
        except WireError as error:
            raise self._file.damaged(
                str(error),
                "move it away and configure a secret that the cluster uses now: the others come"
                " back from the other nodes",
            ) from error
        return state

    def save(self, state: KeyringState) -> None:
        """Keep `state` in the place of what was there.

        Raises:
            StoreError: the file cannot be written; the old one stays.
        """
        self._file.save(_pack(state))
