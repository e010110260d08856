"""Opening the store at the start of a node, and what happens where it must not be used.

Owns the choice between ending with an error and starting from empty. Must not know what is stored.
"""

import os
from pathlib import Path
from typing import Literal

import structlog

from meshlb.errors import UnusableStoreError
from meshlb.store.environment import lock_directory
from meshlb.store.pins import LmdbPins
from meshlb.store.vetting import Owner, set_aside

_log = structlog.get_logger(__name__)


def open_pins(data_dir: Path, owner: Owner, *, on_unusable: Literal["stop", "empty"]) -> LmdbPins:
    """Open the store of `owner`; the caller closes it.

    Args:
        data_dir: where it is.
        owner: whose pins they must be.
        on_unusable: `empty` puts a damaged store, or another cluster's, aside and starts anew.

    Raises:
        UnusableStoreError: with `stop`; the message says what to do.
        StoreError: the directory cannot be used.
    """
    try:
        return LmdbPins(data_dir, owner=owner)
    except UnusableStoreError as error:
        if on_unusable == "stop":
            raise
        lock = lock_directory(data_dir)
        try:
            kept = set_aside(data_dir)
        finally:
            os.close(lock)
        _log.error("this node starts without its pins", reason=str(error), kept=str(kept))
        return LmdbPins(data_dir, owner=owner)
