"""Starts the applications behind the mesh; each names itself, as X-Backend or in a message."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.peers.harness.child import PYTHON, Child, wait_until
from tests.peers.harness.place import LOOPBACK, Place
from tests.peers.harness.ports import free_port

NGINX_CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000; types {{ }} default_type text/plain;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port} backlog=4096;
        add_header X-Backend {name} always;
        location / {{ return 200 "{name}\\n"; }}
        location /files/ {{ alias {folder}/files/; }}
    }}
}}
"""


class Backend(Child):
    """A backend process and the address under which the mesh knows it."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        port: int,
        *,
        place: Place = LOOPBACK,
    ) -> None:
        super().__init__(name, argv, folder / "log", place=place)
        self.folder = folder
        self.port = port

    def wait_accepting(self) -> None:
        wait_until(
            lambda: not self.is_running or accepts(self.port, place=self.place),
            f"{self.name} accepts",
        )
        assert self.is_running, f"{self.name} ended: {self.output()}"


def accepts(port: int, *, place: Place = LOOPBACK) -> bool:
    """Whether somebody accepts TCP connections on that port."""
    with place.entered(), socket.socket() as probe:
        return probe.connect_ex((place.address, port)) == 0


def nginx(name: str, root: Path, place: Place = LOOPBACK) -> Backend:
    """One nginx process; a file in `folder/files` is served under /files/."""
    require("nginx")
    folder, port = root / name, free_port()
    (folder / "files").mkdir(parents=True)
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, host=place.address, port=port, name=name))
    argv = [tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]
    return Backend(name, argv, folder, port, place=place)


def python_backend(kind: str, name: str, root: Path, *more: str) -> Backend:
    """One of tests.peers.backends, such as `plain`, with `more` arguments."""
    folder, port = root / name, free_port()
    folder.mkdir(parents=True)
    argv = [PYTHON, "-m", f"tests.peers.backends.{kind}", "--name", name, "--port", str(port)]
    argv += more
    return Backend(name, argv, folder, port)


def start(backends: Sequence[Backend]) -> None:
    """Start all, then wait for all: they come up side by side."""
    for backend in backends:
        backend.start()
    for backend in backends:
        backend.wait_accepting()


def tool(name: str) -> str:
    """The path of a program, also where Debian keeps it from users."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or name


def require(*names: str) -> None:
    """Skip the test unless all these programs are installed."""
    for name in names:
        if not Path(tool(name)).is_absolute():
            pytest.skip(f"{name} is not installed")
