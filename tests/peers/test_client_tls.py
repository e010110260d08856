"""Real nodes that end TLS, with clients that others have written: OpenSSL, curl, websockets."""

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.fakes.certificates import Authority
from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness import backends
from tests.peers.harness.backends import Backend
from tests.peers.harness.child import wait_until
from tests.peers.harness.mesh import Mesh, Node, new_secret
from tests.peers.harness.ports import free_port
from tests.peers.test_rotation import rotate

NAME = "shop.example"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
REQUEST = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {cert}; ssl_certificate_key {key};
        location / {{ return 200 "$ssl_protocol $ssl_server_name $http_x_forwarded_proto\\n"; }}
    }}
}}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def listener(authority: Authority) -> str:
    files = authority.sign("shop", names=(NAME,))
    return f'tls = {{ cert = "{files.cert}", key = "{files.key}" }}'


def context(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.ca)
    made.minimum_version = made.maximum_version = version
    return made


def ask(
    trust: ssl.SSLContext, node: Node, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession]:
    """One request on a connection of its own: was the session resumed, and what comes next?"""
    raw = socket.create_connection(node.door, timeout=60)
    with trust.wrap_socket(raw, server_hostname=NAME, session=session) as client:
        client.sendall(REQUEST)
        heard = b""
        while piece := client.recv(65_536):
            heard += piece
        assert heard.startswith(b"HTTP/1.1 200 "), heard
        assert client.session is not None
        return bool(client.session_reused), client.session


@pytest.fixture
def mesh(start_backends: StartBackends, start_mesh: StartMesh, listener: str) -> Mesh:
    return start_mesh(backends=start_backends("nginx", 1), size=2, listener=listener)


def test_a_session_goes_on_at_another_node_through_a_rotation_and_a_restart(
    mesh: Mesh, authority: Authority
) -> None:
    here, there = mesh.nodes
    trusts = [context(authority, version) for version in VERSIONS]
    sessions = []
    for trust in trusts:
        resumed, session = ask(trust, here)
        assert not resumed
        assert ask(trust, there, session)[0]
        sessions.append(session)
    rotate(mesh, new_secret())
    there.terminate()
    mesh.start_again([there])
    for trust, session in zip(trusts, sessions, strict=True):
        resumed, newer = ask(trust, there, session)
        assert resumed
        assert ask(trust, here, newer)[0]
    assert there.metric("meshlb_tls_handshakes_total", kind="resumed") == 2


def test_openssls_client_resumes_elsewhere_but_cannot_renegotiate_and_curl_is_content(
    mesh: Mesh, authority: Authority, tmp_path: Path
) -> None:
    backends.require("openssl", "curl")
    for version in ("-tls1_2", "-tls1_3"):
        kept = str(tmp_path / f"session{version}")
        assert "Reused, TLSv1" not in s_client(mesh.nodes[0], authority, version, "-sess_out", kept)
        assert "Reused, TLSv1" in s_client(mesh.nodes[1], authority, version, "-sess_in", kept)
    host, port = mesh.nodes[0].door
    argv = [backends.tool("openssl"), "s_client", "-connect", f"{host}:{port}", "-tls1_2"]
    again = subprocess.run(argv, input=b"R\n", capture_output=True, timeout=60, check=False)
    assert b"no renegotiation" in again.stderr
    argv = [backends.tool("curl"), "--silent", "--show-error", "--http2", "--verbose"]
    argv += ["--cacert", str(authority.ca), "--resolve", f"{NAME}:{port}:{host}"]
    done = subprocess.run(
        [*argv, f"https://{NAME}:{port}/"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "HTTP/1.1 200 OK" in done.stderr
    assert "; Secure" in done.stderr


def s_client(node: Node, authority: Authority, *options: str) -> str:
    """One request by OpenSSL's own client; what it prints."""
    host, port = node.door
    argv = [backends.tool("openssl"), "s_client", "-connect", f"{host}:{port}", *options]
    argv += ["-servername", NAME, "-CAfile", str(authority.ca), "-ign_eof"]
    done = subprocess.run(argv, input=REQUEST, capture_output=True, timeout=60, check=False)
    printed = done.stdout.decode()
    assert "HTTP/1.1 200 OK" in printed
    assert "Verify return code: 0 (ok)" in printed
    return printed


def test_websockets_by_tls_echo_small_and_large_messages(
    start_backends: StartBackends, start_mesh: StartMesh, authority: Authority, listener: str
) -> None:
    mesh = start_mesh(backends=start_backends("echo", 1), size=1, listener=listener)
    host, port = mesh.nodes[0].door

    async def talk() -> None:
        async with connect(
            f"wss://{NAME}:{port}/",
            host=host,
            ssl=context(authority, VERSIONS[1]),
            max_size=None,
        ) as client:
            assert await client.recv() == "s1 1"
            for message in ("small", "x" * 3_000_000):
                await client.send(message)
                assert await client.recv() == message

    asyncio.run(talk())


def test_nginx_behind_tls_is_asked_and_probed_by_its_name(
    start_mesh: StartMesh, authority: Authority, listener: str, tmp_path: Path
) -> None:
    backends.require("nginx")
    folder, port = tmp_path / "behind", free_port()
    folder.mkdir()
    config = folder / "nginx.conf"
    files = authority.sign("behind", names=("behind.example",))
    config.write_text(NGINX.format(folder=folder, port=port, cert=files.cert, key=files.key))
    argv = [backends.tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]
    behind = Backend("n1", argv, folder, port)
    backends.start([behind])
    tls = f'tls = {{ ca = "{authority.ca}", server_name = "behind.example" }}'
    mesh = start_mesh(backends=[behind], size=1, listener=listener, pool=tls)
    (node,) = mesh.nodes
    wait_until(lambda: node.backend_states() == {"n1": "up"}, "nginx is up")
    raw = socket.create_connection(node.door, timeout=60)
    with context(authority, VERSIONS[1]).wrap_socket(raw, server_hostname=NAME) as client:
        client.sendall(REQUEST)
        heard = b""
        while piece := client.recv(65_536):
            heard += piece
    assert heard.endswith(b"TLSv1.3 behind.example https\n")


def test_workers_of_one_node_resume_each_others_sessions_and_shake_hands_by_new_files(
    start_backends: StartBackends, start_mesh: StartMesh, authority: Authority, listener: str
) -> None:
    mesh = start_mesh(backends=start_backends("nginx", 1), size=1, listener=listener, workers=2)
    (node,) = mesh.nodes
    trust = context(authority, VERSIONS[1])
    session = None
    for number in range(12):
        resumed, session = ask(trust, node, session)
        assert resumed == bool(number)
    wait_until(
        lambda: node.metric("meshlb_tls_handshakes_total", kind="resumed") == 11,
        "the workers have told what they counted",
    )
    newer = authority.sign("newer", names=(NAME, "newer.example"))
    for old, new in zip(
        sorted(authority.directory.glob("shop.*")), (newer.key, newer.cert), strict=True
    ):
        old.write_bytes(new.read_bytes())
    assert node.ask("/v1/reload", method="POST")[0] == 200
    wait_until(
        lambda: all("newer.example" in shown_names(trust, node) for _ in range(8)),
        "every worker shows the new certificate",
    )


def shown_names(trust: ssl.SSLContext, node: Node) -> list[str]:
    """The alternative names of the certificate that a new client is shown."""
    raw = socket.create_connection(node.door, timeout=60)
    with trust.wrap_socket(raw, server_hostname=NAME) as client:
        shown: dict[str, Any] = client.getpeercert() or {}
        return [name for _, name in shown["subjectAltName"]]
