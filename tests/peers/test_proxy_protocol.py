"""The PROXY protocol with others who speak it: HAProxy in front, HAProxy and nginx behind."""

import socket
from pathlib import Path

import pytest

from tests.peers.conftest import StartMesh
from tests.peers.harness import backends
from tests.peers.harness.backends import Backend
from tests.peers.harness.ports import free_port

CLIENT = "127.0.0.77"
"""Another loopback address than any proxy's own."""

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        location / {{ return 200 "$proxy_protocol_addr $proxy_protocol_port"; }}
    }}
}}
"""
HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen web
    bind 127.0.0.1:{port} {bind}
    {rule}
"""
SAY_SOURCE = 'http-request return content-type text/plain lf-string "%[src] %[src_port]"'


def haproxy(root: Path, *, mode: str, bind: str = "", rule: str) -> Backend:
    backends.require("haproxy")
    folder, port = root / f"haproxy-{mode}-{bind}", free_port()
    folder.mkdir()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(mode=mode, port=port, bind=bind, rule=rule))
    return Backend("h1", [backends.tool("haproxy"), "-db", "-f", str(config)], folder, port)


def nginx(root: Path) -> Backend:
    backends.require("nginx")
    folder, port = root / "nginx", free_port()
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    argv = [backends.tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]
    return Backend("n1", argv, folder, port)


def ask(port: int, times: int) -> None:
    """Ask from `CLIENT` on one connection; the backend must say that it was this client."""
    with socket.socket() as client:
        client.settimeout(60)
        client.bind((CLIENT, 0))
        client.connect(("127.0.0.1", port))
        own = "{} {}".format(*client.getsockname()).encode()
        for _ in range(times):
            client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            heard = b""
            while not heard.endswith(own):
                piece = client.recv(4_096)
                assert piece, heard
                heard += piece
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("protocol", ["http", "tcp"])
@pytest.mark.parametrize("behind", ["haproxy", "nginx"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_client_keeps_its_address_on_the_way_through_three_proxies(
    version: str, behind: str, protocol: str, tmp_path: Path, start_mesh: StartMesh
) -> None:
    if behind == "nginx":
        backend = nginx(tmp_path)
    else:
        backend = haproxy(tmp_path, mode="http", bind="accept-proxy", rule=SAY_SOURCE)
    backends.start([backend])
    mesh = start_mesh(
        backends=[backend],
        size=1,
        sticky=['{ by = "source-ip" }'],
        protocol=protocol,
        listener="proxy_protocol = true",
        pool=f'proxy_protocol = "{version}"',
    )
    (node,) = mesh.nodes
    says = "send-proxy-v2 proxy-v2-options crc32c,unique-id" if version == "v2" else "send-proxy"
    front = haproxy(tmp_path, mode="tcp", rule=f"server lb-1 127.0.0.1:{node.port} {says}")
    backends.start([front])

    ask(front.port, times=3)
    assert node.metric("meshlb_proxy_headers_refused_total") == 0
