"""Serves the admin API inside the node's nursery, on Hypercorn's trio worker.

Owns the admin socket and Hypercorn's settings. It must not know what the API answers.
"""

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Final, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette

from meshlb.admin.guard import Guard
from meshlb.config import AdminSettings, UnixPath
from meshlb.config.loader import read_token
from meshlb.errors import ListenError
from meshlb.model import Address
from meshlb.net.sockets import bind_tcp, describe

BACKLOG_CONNECTIONS: Final = 64
GRACE_S: Final = 1.0
STALLED_CLIENT_MS: Final = 5_000
"""A client that acknowledges nothing for so long is cut: it cannot hold up the node's exit."""


class AdminDoor:
    """The listening socket of the admin API, which can outlive the process that opened it."""

    def __init__(self, bind: Address | UnixPath, sock: socket.socket | None = None) -> None:
        """Open it, or go on with `sock`, which another process has opened at `bind`.

        Raises:
            ListenError: the address cannot be bound.
        """
        self.sock = sock or (
            _listen_unix(bind) if isinstance(bind, UnixPath) else _listen_tcp(bind)
        )
        self.place = bind
        self._inode = 0
        if isinstance(bind, UnixPath):
            with contextlib.suppress(OSError):
                self._inode = bind.path.stat().st_ino
        else:
            self.place = Address(bind.host, self.sock.getsockname()[1])

    def hand_over(self) -> None:
        """Another process goes on with it: leave it to that."""
        self._inode = 0
        self.sock.close()

    def close(self) -> None:
        """Close it; a Unix socket is removed, unless another node has put its own there since."""
        self.sock.close()
        if isinstance(self.place, UnixPath):
            with contextlib.suppress(OSError):
                if self.place.path.stat().st_ino == self._inode:
                    self.place.path.unlink()


async def serve(
    settings: AdminSettings,
    app: Starlette,
    *,
    door: AdminDoor | None = None,
    task_status: trio.TaskStatus[Address | UnixPath] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until cancelled; reports the bound address once it accepts.

    Args:
        settings: where, and who may ask.
        app: what answers.
        door: open already; it stays the caller's.
        task_status: of `nursery.start`.

    Raises:
        ListenError: the address cannot be bound, or the token cannot be read.
    """
    guarded = cast("ASGIFramework", Guard(app, token=_token(settings)))
    used = door or AdminDoor(settings.bind)
    config = Config()
    config.errorlog = None
    config.include_server_header = False
    config.graceful_timeout = GRACE_S
    config.bind = [f"fd://{used.sock.dup().detach()}"]
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(hypercorn_serve, guarded, config)
            task_status.started(used.place)
    finally:
        if door is None:
            used.close()


def _token(settings: AdminSettings) -> str | None:
    if settings.token_file is None:
        return None
    try:
        return read_token(settings.token_file)
    except ValueError as error:
        raise ListenError(str(error)) from error


def _listen_tcp(bind: Address) -> socket.socket:
    sock = bind_tcp(bind)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_CLIENT_MS)
        sock.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {bind}: {describe(error)}") from error
    return sock


def _listen_unix(bind: UnixPath) -> socket.socket:
    """Only this user may connect; the socket that a killed node left behind gives way."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    mask = os.umask(0o177)
    try:
        if _is_stale(bind.path):
            bind.path.unlink()
        sock.bind(str(bind.path))
        sock.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {bind}: {describe(error)}") from error
    finally:
        os.umask(mask)
    return sock


def _is_stale(path: Path) -> bool:
    """Whether `path` is a socket at which nobody listens any more."""
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED
