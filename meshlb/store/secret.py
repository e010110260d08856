"""The secret of a node that stands alone: seals its cookies, and is kept beside its pins.

A member of a cluster has no secret of its own; it uses the cluster's.
"""

import secrets
from pathlib import Path
from typing import Final

from meshlb.errors import StoreError
from meshlb.store.private import read_private, write_private

SECRET_BYTES: Final = 32


def own_secret(data_dir: Path) -> bytes:
    """The secret in `data_dir`, made at the first start.

    Raises:
        StoreError: the file cannot be read or written, or is not a secret of ours.
    """
    path = data_dir / "cookie.secret"
    secret = read_private(path)
    if secret is None:
        secret = secrets.token_bytes(SECRET_BYTES)
        write_private(path, secret)
    if len(secret) != SECRET_BYTES:
        raise StoreError(f"{path}: not {SECRET_BYTES} bytes; remove the file to have it made anew")
    return secret
