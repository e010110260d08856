"""Whether what is in a data directory can be trusted, and where it goes if not.

Owns the files `clean` and `owner` beside the store: the first says that nothing has touched it
since a node closed it, so that it need not be read through; the second whose pins they are. The
pins of another cluster must not be told to this one. Must not know what is stored.
"""

import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from meshlb.errors import StoreError, UnusableStoreError
from meshlb.store import walk
from meshlb.store.private import read_private, write_private

DATA: Final = "data.mdb"
LOCK: Final = "lock.mdb"
CLEAN: Final = "clean"
OWNER: Final = "owner"
ASIDE: Final = ".unusable"
"""Ends the names of files that were put aside. Those of one time only, so they are bounded."""

_log = structlog.get_logger(__name__)


def check_pages(directory: Path) -> None:
    """Read the whole store once, unless it is as a node has left it.

    From now on it counts as touched, until `mark_clean`.

    Raises:
        UnusableStoreError: it is damaged.
        StoreError: the directory cannot be used.
    """
    try:
        with (directory / DATA).open("rb") as file:
            if not file.read(1):
                return
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreachable(directory, error) from error
    if read_private(directory / CLEAN) != _fingerprint(directory):
        command = [sys.executable, "-I", walk.__file__, str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            raise damaged(directory, f"reading it ends with {name}")
        if done.returncode > 0:
            reason = (done.stdout or done.stderr).strip().rpartition("\n")[2]
            raise damaged(directory, reason)
    try:
        (directory / CLEAN).unlink(missing_ok=True)
    except OSError as error:
        raise _unreachable(directory, error) from error


def mark_clean(directory: Path) -> None:
    """The store is closed and on the disk. Without the mark, it is read through the next time."""
    try:
        write_private(directory / CLEAN, _fingerprint(directory))
    except (OSError, StoreError) as error:
        _log.info("the store will be read through at the next start", reason=str(error))


def _fingerprint(directory: Path) -> bytes:
    about = (directory / DATA).stat()
    return b"%d %d\n" % (about.st_size, about.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose pins a store holds; `cluster` is empty for a node that stands alone."""

    cluster: str
    node: str


def check_owner(directory: Path, owner: Owner) -> None:
    """See that the pins are of this cluster, and note that they are.

    A node that has another name than before is told so: it may have been renamed, or its
    directory copied.

    Raises:
        UnusableStoreError: they are another cluster's.
        StoreError: the note cannot be read or written.
    """
    path = directory / OWNER
    words = f'cluster = "{owner.cluster}"\nnode = "{owner.node}"\n'
    noted = read_private(path)
    if noted == words.encode():
        return
    if noted is not None and (directory / DATA).exists():
        try:
            known = Owner(**tomllib.loads(noted.decode()))
        except (ValueError, TypeError):
            known = owner
        if known.cluster != owner.cluster:
            raise UnusableStoreError(
                f"the pins in {directory} are of {_named(known.cluster)}, and this node is of"
                f" {_named(owner.cluster)}: give it a data_dir of its own, or move {DATA} away;"
                f" if only the name has changed, remove {path}"
            )
        if known.node != owner.node:
            _log.warning(
                "the pins of a node of another name are taken over; a data_dir must not be shared",
                data_dir=str(directory),
                owner=known.node,
                node=owner.node,
            )
    write_private(path, words.encode())


def _named(cluster: str) -> str:
    return f'the cluster "{cluster}"' if cluster else "a node without a cluster"


def set_aside(directory: Path) -> Path:
    """Make room for an empty store; returns where the unusable one is, in the place of any older.

    Raises:
        StoreError: the files cannot be moved.
    """
    try:
        for name in (DATA, LOCK, OWNER, CLEAN):
            if (directory / name).exists():
                os.replace(directory / name, directory / f"{name}{ASIDE}")
    except OSError as error:
        raise _unreachable(directory, error) from error
    return directory / f"{DATA}{ASIDE}"


def damaged(directory: Path, reason: str) -> UnusableStoreError:
    """What to raise for a store that cannot be read."""
    return UnusableStoreError(
        f"the store in {directory} is damaged ({reason}); move {DATA} and {LOCK} away and start"
        " again: the pins come back from the other nodes"
    )


def _unreachable(directory: Path, error: OSError) -> StoreError:
    return StoreError(f"data_dir {directory} cannot be used: {error.strerror}")
