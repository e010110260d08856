"""Files that hold secrets: readable by this user alone, and never half-written.

Owns how they are written and read. Must not know what is in them.
"""

import os
from pathlib import Path

from meshlb.errors import StoreError


def write_private(path: Path, content: bytes) -> None:
    """Put `content` in the place of what `path` held, and on the disk; or change nothing.

    Raises:
        StoreError: the file cannot be written.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def read_private(path: Path) -> bytes | None:
    """What `path` holds; None where there is no such file.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
