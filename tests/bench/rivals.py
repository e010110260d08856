"""The proxies side by side, each set up for the same job: sticky by cookie, no log.

One process and one core each; or several, which may use all cores.

With files they end TLS, each by its own defaults, which come to the same.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests import native
from tests.bench.rig import PROXY_CORE
from tests.fakes.certificates import Files
from tests.peers.harness.backends import Backend, tool
from tests.peers.harness.child import PYTHON, Child
from tests.peers.harness.ports import free_port

CLIENTS = 9_900
"""Who may be connected at a time; HAProxy wants two descriptors for each."""

HAPROXY_CONFIG = """
global
    nbthread {workers}
    no strict-limits
    tune.pool-low-fd-ratio 90
    tune.pool-high-fd-ratio 95
    maxconn {clients}
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend web
    bind 127.0.0.1:{port} backlog 4096 {tls}
    default_backend app
backend app
    balance roundrobin
    option forwardfor
    http-reuse always
    cookie LB insert indirect nocache
{servers}
"""

NGINX_CONFIG = """
daemon off; {processes} pid {folder}/nginx.pid; error_log stderr warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_field {{ default upgrade; '' ''; }}
    upstream app {{
        hash $cookie_lb;
        {servers}
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096 {tls}
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_read_timeout 1h;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_field;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""

MESHLB_CONFIG = """
[node]
name = "bench"
workers = {workers}
kernel_relay = "{relay}"
[admin]
bind = "127.0.0.1:{admin_port}"
[[listener]]
name = "web"
bind = "127.0.0.1:{port}"
protocol = "http"
pool = "app"
max_connections = {clients}
timeouts = {{ idle = "1h", tunnel_idle = "1h" }}
{tls}
[pool.app]
sticky = [{{ by = "cookie", name = "LB" }}]
{servers}
"""


def haproxy(
    folder: Path,
    backends: Sequence[Backend],
    files: Files | None = None,
    *,
    workers: int = 0,
    clients: int = CLIENTS,
) -> tuple[Child, int]:
    """HAProxy, which inserts its own cookie that names the server."""
    tls = ""
    if files is not None:
        both = folder / "both.pem"
        both.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
        tls = f"ssl crt {both} alpn http/1.1"
    servers = "\n".join(
        f"    server {backend.name} 127.0.0.1:{backend.port} cookie {backend.name}"
        for backend in backends
    )
    port, config = free_port(), folder / "haproxy.cfg"
    config.write_text(
        HAPROXY_CONFIG.format(
            port=port, servers=servers, tls=tls, workers=workers or 1, clients=clients
        )
    )
    argv = [tool("haproxy"), "-db", "-f", str(config)]
    return _proxy("haproxy", argv, folder, workers), port


def nginx(
    folder: Path,
    backends: Sequence[Backend],
    files: Files | None = None,
    *,
    workers: int = 0,
    clients: int = CLIENTS,  # more than that may connect
) -> tuple[Child, int]:
    """Nginx, whose free edition hashes the client's cookie over the servers."""
    tls = ";"
    if files is not None:
        tls = f"ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {files.cert};"
        tls += f" ssl_certificate_key {files.key};"
    servers = " ".join(f"server 127.0.0.1:{backend.port};" for backend in backends)
    port, config = free_port(), folder / "nginx.conf"
    processes = "master_process off;"
    if workers:
        # As root its workers become another user, who has no business in our folder.
        processes = f"worker_processes {workers};" + (" user root;" if not os.geteuid() else "")
    values = {"port": port, "servers": servers, "folder": folder, "tls": tls}
    config.write_text(NGINX_CONFIG.format(processes=processes, **values))
    argv = [tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]
    return _proxy("nginx", argv, folder, workers), port


def meshlb(
    folder: Path,
    backends: Sequence[Backend],
    files: Files | None = None,
    *,
    relay: str = "auto",
    workers: int = 0,
    clients: int = CLIENTS,
    environment: Mapping[str, str] | None = None,
) -> tuple[Child, int]:
    """One node that stands alone, sticky by its sealed cookie."""
    tls = f'tls = {{ cert = "{files.cert}", key = "{files.key}" }}' if files is not None else ""
    servers = "\n".join(
        f'[[pool.app.backend]]\nname = "{backend.name}"\naddress = "127.0.0.1:{backend.port}"'
        for backend in backends
    )
    port, config = free_port(), folder / "meshlb.toml"
    values = {"port": port, "admin_port": free_port(), "servers": servers, "tls": tls}
    config.write_text(MESHLB_CONFIG.format(relay=relay, workers=workers, clients=clients, **values))
    argv = [PYTHON, "-m", "meshlb", "run", str(config)]
    return _proxy("meshlb", argv, folder, workers, environment), port


def _proxy(
    name: str,
    argv: Sequence[str],
    folder: Path,
    workers: int,
    environment: Mapping[str, str] | None = None,
) -> Child:
    proxy = Child(name, argv, folder / f"{name}.log", environment)
    if not workers:
        proxy.pin(PROXY_CORE)
    return proxy


PROXIES: dict[str, Callable[..., tuple[Child, int]]] = {
    "haproxy": haproxy,
    "nginx": nginx,
    "meshlb": meshlb,
}
if native.is_built():
    PROXIES["meshlb compiled"] = partial(meshlb, environment=native.environment())
