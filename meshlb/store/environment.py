"""The LMDB environment: where it lives, who may open it, and what can be wrong with it.

Owns the directory, its lock, the map's size and the translation of LMDB's errors. Must not know
what is stored.

Durability: a commit is written to the page cache, not to the disk, so it survives the death of
every process but not of the machine; `sync` makes all commits so far survive that as well, and
is meant for a thread. The memory map is read-only, because a full disk must be an error and not
a SIGBUS.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from meshlb.errors import StoreError
from meshlb.store import vetting
from meshlb.store.vetting import Owner

MAP_BYTES_FIRST = 256 * 1024 * 1024
"""Address space, not memory: about three million pins. Doubled when it is full."""

MAP_BYTES_MAX = 64 * 1024 * 1024 * 1024

_LOCK_NAME = "meshlb.lock"
TABLES_MAX = 8
"""Meta, names, and two sets of three."""

READERS_MAX = 1_024
"""Processes and threads that can read at a time: every worker is one."""

T = TypeVar("T")


class Environment:
    """An open LMDB environment that belongs to this process alone.

    Attributes:
        lmdb: the environment.
        directory: where it lives.
        on_write: told of the end of each write transaction, and whether it was committed.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        owner: Owner | None = None,
        map_bytes: int = MAP_BYTES_FIRST,
    ) -> None:
        """Open or create the store in `data_dir`.

        Args:
            data_dir: where it is; made if need be.
            owner: whose pins are or shall be in it; None: no matter.
            map_bytes: the size of the memory map to begin with.

        Raises:
            UnusableStoreError: when it holds a damaged store, or another cluster's; the message
                says what to do.
            StoreError: when the directory cannot be used, or is in use.
        """
        self.directory = data_dir
        self.on_write: Callable[[bool], None] = lambda committed: None
        self._reader: Any = None
        self._lock = lock_directory(data_dir)
        try:
            vetting.check_pages(data_dir)
            if owner is not None:
                vetting.check_owner(data_dir, owner)
            self.lmdb = _open(data_dir, map_bytes)
        except BaseException:
            self.close()
            raise

    def read(self) -> Any:
        """A read transaction that sees every commit so far; of use until the next `write`."""
        if self._reader is None:
            self._reader = self.lmdb.begin()
        return self._reader

    def free_readers(self) -> None:
        """Processes that died while they read keep nothing in use any longer."""
        self.lmdb.reader_check()

    def _end_reader(self) -> None:
        """An open reader keeps the writer from using the pages of what it sees anew."""
        if self._reader is not None:
            self._reader.abort()
            self._reader = None

    def write(self, action: Callable[[Any], T]) -> T:
        """Run `action` in one write transaction, again with a larger map if it is full.

        Raises:
            StoreError: when the disk is full or fails; nothing was written.
        """
        self._end_reader()
        committed = False
        try:
            result = self._write(action)
            committed = True
        finally:
            self.on_write(committed)
        return result

    def _write(self, action: Callable[[Any], T]) -> T:
        while True:
            try:
                with self.lmdb.begin(write=True) as transaction:
                    return action(transaction)
            except lmdb.MapFullError as error:
                map_bytes = self.lmdb.info()["map_size"] * 2
                if map_bytes > MAP_BYTES_MAX:
                    raise StoreError(f"the store has reached {MAP_BYTES_MAX} bytes") from error
                self.lmdb.set_mapsize(map_bytes)
            except lmdb.Error as error:
                # LMDB calls a write that was cut short an input/output error.
                about = f"{_free_bytes(self.directory):,} bytes free"
                raise StoreError(f"cannot write to {self.directory}, {about}: {error}") from error

    def sync(self) -> None:
        """Flush every commit so far to the disk; may take long, so call it in a thread.

        Raises:
            StoreError: when the disk fails.
        """
        try:
            self.lmdb.sync(True)
        except lmdb.Error as error:
            raise StoreError(f"cannot flush {self.directory}: {error}") from error

    def close(self) -> None:
        """Flush and close the store. Closing twice does no harm."""
        environment = getattr(self, "lmdb", None)
        if environment is not None and self._lock >= 0:
            self._close(environment)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _close(self, environment: Any) -> None:
        self._end_reader()
        try:
            self.sync()
        except StoreError:
            environment.close()
        else:
            environment.close()
            vetting.mark_clean(self.directory)


def _free_bytes(directory: Path) -> int:
    try:
        about = os.statvfs(directory)
    except OSError:
        return 0
    return about.f_bavail * about.f_frsize


def lock_directory(directory: Path) -> int:
    """A descriptor that holds the lock for as long as it is open, also over a SIGKILL.

    Raises:
        StoreError: the directory cannot be used, or is in use.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"data_dir {directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreError(f"data_dir {directory} is in use by another node") from error
    return lock


def _open(directory: Path, map_bytes: int) -> Any:
    try:
        return lmdb.open(
            str(directory),
            map_size=map_bytes,
            max_dbs=TABLES_MAX,
            max_readers=READERS_MAX,
            sync=False,
            metasync=False,
            readahead=False,
            meminit=False,
        )
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
        raise vetting.damaged(directory, str(error)) from error
    except lmdb.Error as error:
        reason = str(error).removeprefix(f"{directory}: ")
        raise StoreError(f"data_dir {directory} cannot be used: {reason}") from error
