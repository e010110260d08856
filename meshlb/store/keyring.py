"""What a node keeps of its cluster's secrets between two starts.

Owns the file `keyring` in `data_dir`. Must not know what the words in it mean: `core.keyring`
merges them with the configuration. The file is bound to the cluster by its label, because the
words of another cluster would open this one to it.
"""

from pathlib import Path
from typing import Final

import structlog

from meshlb.errors import StoreError, WireError
from meshlb.store.private import read_private, write_private
from meshlb.wire.codec import record_codec
from meshlb.wire.key_words import KeyringState
from meshlb.wire.seal import CLUSTER_LABEL_BYTES, ClusterLabel

NAME: Final = "keyring"
_MAGIC: Final = b"meshlb keyring 1\n"

_pack, _unpack = record_codec(KeyringState)
_log = structlog.get_logger(__name__)


class KeyringFile:
    """The keyring in `data_dir`; without one, nothing outlasts the process."""

    def __init__(self, data_dir: Path | None, label: ClusterLabel) -> None:
        self._path = None if data_dir is None else data_dir / NAME
        self._label = label

    def load(self) -> KeyringState | None:
        """What was saved last; None where that is nothing, or another cluster's.

        Raises:
            StoreError: the file cannot be read, or is damaged.
        """
        content = None if self._path is None else read_private(self._path)
        if content is None:
            return None
        start = len(_MAGIC) + CLUSTER_LABEL_BYTES
        is_whole = content.startswith(_MAGIC) and len(content) > start
        if is_whole and content[len(_MAGIC) : start] != self._label:
            _log.warning("the keyring of another cluster is ignored", path=str(self._path))
            return None
        try:
            if not is_whole:
                raise WireError("no keyring begins like this, or it is cut short")
            state: KeyringState = _unpack(content[start:])
        except WireError as error:
            raise StoreError(
                f"{self._path} is damaged ({error}); move it away and configure a secret that the"
                " cluster uses now: the others come back from the other nodes"
            ) from error
        return state

    def save(self, state: KeyringState) -> None:
        """Keep `state` in the place of what was there.

        Raises:
            StoreError: the file cannot be written; the old one stays.
        """
        if self._path is not None:
            write_private(self._path, _MAGIC + self._label + _pack(state))
