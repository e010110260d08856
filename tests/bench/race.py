"""First requests of new keys at three nodes at once: who gives one key two backends?

`python -m tests.bench.race [--keys N]`

Three HAProxy nodes whose stick tables are peers, and three nodes of meshlb, get the same race:
each key at all nodes, twice at each, in parallel. `split` counts keys that several backends
answered; `split later` those still without one answer two seconds afterwards.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tests.bench.rig import Column, print_table, running
from tests.peers.harness import backends
from tests.peers.harness.backends import Backend, tool
from tests.peers.harness.child import Child
from tests.peers.harness.mesh import HEADER, Mesh, Plan, new_secret
from tests.peers.harness.ports import free_port
from tests.peers.test_agreement import PER_NODE, ask_everybody

SETTLE_S = 2.0

HAPROXY_CONFIG = """
global
    nbthread 1
    localpeer lb-{number}
    hard-stop-after 5s
    {cli}
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
peers mesh
{peers}
frontend web
    bind 127.0.0.1:{port} backlog 4096
    default_backend app
backend app
    balance roundrobin
    stick-table type string len 64 size {size} expire 20m peers mesh
    stick on req.hdr(X-Session)
{servers}
"""

COLUMNS = [
    Column("keys", digits=0),
    Column("split", digits=0),
    Column("split later", digits=0),
    Column("requests/s", digits=0, less_is_better=False),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=2_000)
    keys = [f"key-{number}" for number in range(parser.parse_args().keys)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        origins = [backends.nginx(f"s{number}", root) for number in (1, 2, 3)]
        with running(*((origin, origin.port) for origin in origins)):
            haproxies = haproxy_peers(root, origins)
            with running(*haproxies):
                time.sleep(SETTLE_S)  # until the peers have found each other
                results = {"haproxy": race([port for _, port in haproxies], keys)}
            mesh = Mesh(root, Plan(backends=origins, sticky=[HEADER], secret=new_secret()))
            with running(*((node, node.port) for node in mesh.nodes)):
                mesh.wait_ready()
                results["meshlb"] = race(mesh.ports, keys)
    print_table("first requests of new keys at three nodes at once", COLUMNS, results)


def race(ports: list[int], keys: list[str]) -> list[float]:
    """Figures in the order of `COLUMNS`."""
    begin = time.perf_counter()
    first = asyncio.run(ask_everybody(ports, keys, per_node=PER_NODE))
    took_s = time.perf_counter() - begin
    time.sleep(SETTLE_S)
    later = asyncio.run(ask_everybody(ports, keys, per_node=1))
    split = [key for key in keys if len(first[key]) > 1]
    still = [key for key in keys if len(later[key]) > 1]
    return [len(keys), len(split), len(still), len(keys) * len(ports) * PER_NODE / took_s]


def haproxy_peers(
    root: Path, origins: list[Backend], *, size: int = 1_048_576, has_cli: bool = False
) -> list[tuple[Child, int]]:
    """Three HAProxy nodes that replicate their stick tables to each other.

    With `has_cli` each takes commands at `haproxy-N.sock`.
    """
    addresses = [free_port() for _ in range(3)]
    peers = "\n".join(f"    peer lb-{n} 127.0.0.1:{port}" for n, port in enumerate(addresses, 1))
    servers = "\n".join(f"    server {o.name} 127.0.0.1:{o.port}" for o in origins)
    nodes = []
    for number in (1, 2, 3):
        port, config = free_port(), root / f"haproxy-{number}.cfg"
        cli = f"stats socket {root}/haproxy-{number}.sock level admin" if has_cli else ""
        config.write_text(
            HAPROXY_CONFIG.format(
                number=number, port=port, peers=peers, servers=servers, size=size, cli=cli
            )
        )
        argv = [tool("haproxy"), "-db", "-f", str(config)]
        nodes.append((Child(f"haproxy-{number}", argv, root / f"haproxy-{number}.log"), port))
    return nodes


if __name__ == "__main__":
    main()
