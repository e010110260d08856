"""The secret of a node that stands alone: seals its cookies, and is kept beside its pins.

A member of a cluster has no secret of its own; it uses the cluster's.
"""

import os
import secrets
from pathlib import Path
from typing import Final

from meshlb.errors import StoreError

SECRET_BYTES: Final = 32


def own_secret(data_dir: Path | None) -> bytes:
    """The secret in `data_dir`, made at the first start; without a `data_dir` a new one.

    Raises:
        StoreError: the file cannot be read or written, or is not a secret of ours.
    """
    if data_dir is None:
        return secrets.token_bytes(SECRET_BYTES)
    path = data_dir / "cookie.secret"
    try:
        if not path.exists():
            _write(path, secrets.token_bytes(SECRET_BYTES))
        secret = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if len(secret) != SECRET_BYTES:
        raise StoreError(f"{path}: not {SECRET_BYTES} bytes; remove the file to have it made anew")
    return secret


def _write(path: Path, secret: bytes) -> None:
    """Readable by this user alone, and never half-written."""
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
