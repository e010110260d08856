"""N nodes of meshlb as real processes on loopback, and what a test asks and does to them."""

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.certificates import Authority
from tests.peers.harness.backends import Backend
from tests.peers.harness.child import PYTHON, Child, wait_until
from tests.peers.harness.http import Door
from tests.peers.harness.place import LOOPBACK, Place
from tests.peers.harness.ports import free_port

ADMIN_TIMEOUT_S = 60.0
START_PATIENCE_S = 180.0
"""What a start may take where all cores are busy with something else."""

WORKERS = int(os.environ.get("MESHLB_TEST_WORKERS", "0"))
"""How many processes serve the clients of a node where a test does not care."""

PINS_MAX = 1_000
"""The most pins that the admin API lists at once."""

COOKIE = '{ by = "cookie", name = "MESHLB" }'
HEADER = '{ by = "header", name = "X-Session" }'


def new_secret() -> str:
    """A cluster secret as the configuration has it."""
    return base64.b64encode(os.urandom(32)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the configurations of a mesh's nodes have in common."""

    backends: Sequence[Backend]
    sticky: Sequence[str] = (HEADER, COOKIE)
    balance: str = "round-robin"
    profile: str = "lan"
    mode: str = "available"
    on_unusable_store: str = "stop"
    cluster: str = "test"
    secret: str = ""
    shutdown_timeout: str = "5s"
    workers: int = WORKERS
    max_head: str = "32KiB"
    timeouts: str = '{ head = "1m", idle = "120s", tunnel_idle = "10m" }'
    response_timeout: str = "60s"
    protocol: str = "http"
    listener: str = ""
    """More lines of the listener."""
    pool: str = ""
    """More lines of the pool."""
    authority: Authority | None = None
    """Signs a certificate for each node; None: streams are not over TLS."""


class Node(Child):
    """One node: its ports, and its admin API."""

    def __init__(self, name: str, folder: Path, *, place: Place = LOOPBACK) -> None:
        self.folder = folder
        self.config = folder / "node.toml"
        argv = [PYTHON, "-m", "meshlb", "run", str(self.config)]
        super().__init__(name, argv, folder / "log", place=place)
        self.port, self.cluster_port, self.admin_port = free_port(), free_port(), free_port()

    @property
    def door(self) -> Door:
        """Where clients reach the node."""
        return self.place.address, self.port

    @property
    def cluster_address(self) -> str:
        """Where the other nodes reach it."""
        return f"{self.place.address}:{self.cluster_port}"

    def write_config(self, plan: Plan, join: Sequence["Node"]) -> None:
        """Write the configuration file; `join` are the seeds."""
        seeds = ", ".join(f'"{node.cluster_address}"' for node in join if node is not self)
        backends = "\n".join(
            "[[pool.app.backend]]\n"
            f'name = "{backend.name}"\naddress = "{backend.place.address}:{backend.port}"'
            for backend in plan.backends
        )
        tls = ""
        if plan.authority is not None:
            files, ca = plan.authority.sign(self.name), plan.authority.ca
            tls = f'tls = {{ cert = "{files.cert}", key = "{files.key}", ca = "{ca}" }}'
        unusable = plan.on_unusable_store and f'on_unusable_store = "{plan.on_unusable_store}"'
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(f"""
[node]
name = "{self.name}"
data_dir = "{self.folder / "state"}"
shutdown_timeout = "{plan.shutdown_timeout}"
workers = {plan.workers}
{unusable}

[cluster]
name = "{plan.cluster}"
bind = "{self.cluster_address}"
join = [{seeds}]
secrets = ["{plan.secret}"]
profile = "{plan.profile}"
mode = "{plan.mode}"
{tls}

[admin]
bind = "127.0.0.1:{self.admin_port}"

[[listener]]
name = "web"
bind = "{self.place.address}:{self.port}"
protocol = "{plan.protocol}"
pool = "app"
{plan.listener}
timeouts = {plan.timeouts}
max_head = "{plan.max_head}"

[pool.app]
balance = "{plan.balance}"
connect_timeout = "5s"
response_timeout = "{plan.response_timeout}"
{plan.pool}
sticky = [{", ".join(plan.sticky)}]

[pool.app.health]
interval = "500ms"
timeout = "3s"
rise = 1
fall = 2

{backends}
""")

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        timeout_s: float = ADMIN_TIMEOUT_S,
    ) -> tuple[int, Any]:
        """Ask the admin API; returns the status and the JSON, or the text where it is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin_port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with (
                self.place.entered(),
                urllib.request.urlopen(request, timeout=timeout_s) as response,
            ):
                return response.status, _parsed(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())

    @property
    def is_ready(self) -> bool:
        assert self.is_running, f"{self.name} ended: {self.output()[-2000:]}"
        try:
            return self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def members(self) -> dict[str, str]:
        """The state of each member by its name, as this node sees it."""
        status, answer = self.ask("/v1/members")
        assert status == 200, answer
        return {member["name"]: member["state"] for member in answer["members"]}

    def backend_states(self) -> dict[str, str]:
        """The state of each backend by its name, as this node sees it."""
        status, answer = self.ask("/v1/pools")
        assert status == 200, answer
        (pool,) = answer["pools"]
        return {backend["name"]: backend["state"] for backend in pool["backends"]}

    def pins(self) -> dict[str, tuple[str, int, str]]:
        """Backend, epoch and rank of each live pin by its key, as this node's table has them."""
        status, answer = self.ask(f"/v1/pins?pool=app&limit={PINS_MAX}")
        assert status == 200, answer
        assert len(answer["pins"]) < PINS_MAX
        return {pin["key"]: (pin["backend"], pin["epoch"], pin["rank"]) for pin in answer["pins"]}

    def heals(self) -> list[dict[str, Any]]:
        """The heals that this node has seen, the oldest first."""
        status, answer = self.ask("/v1/heals")
        assert status == 200, answer
        return list(answer["heals"])

    def status(self) -> dict[str, Any]:
        """The node at a glance."""
        status, answer = self.ask("/v1/status")
        assert status == 200, answer
        return dict(answer)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels; 0 where there are none."""
        families = text_string_to_metric_families(self.ask("/metrics")[1])
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


class Mesh:
    """Several nodes of one cluster, each with all others as seeds."""

    def __init__(
        self, folder: Path, plan: Plan, *, size: int = 3, places: Sequence[Place] = ()
    ) -> None:
        self.plan = plan
        self.nodes = [
            Node(f"lb-{number}", folder / f"lb-{number}", place=place)
            for number, place in enumerate(places or [LOOPBACK] * size, start=1)
        ]
        for node in self.nodes:
            node.write_config(plan, self.nodes)

    @property
    def ports(self) -> list[int]:
        """The listeners' ports of the nodes that run."""
        return [node.port for node in self.nodes if node.is_running]

    @property
    def doors(self) -> list[Door]:
        """Where clients reach the nodes that run."""
        return [node.door for node in self.nodes if node.is_running]

    def start(self) -> None:
        """Start all nodes and wait until each is ready and sees all others."""
        self.start_again(self.nodes)

    def start_again(self, nodes: Sequence[Node]) -> None:
        """Start some that were killed, and wait as `start` does."""
        for node in nodes:
            node.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until every running node is ready and they all see each other alive."""
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            wait_until(
                lambda node=node: node.is_ready, f"{node.name} is ready", timeout_s=START_PATIENCE_S
            )
        names = {node.name for node in running}
        for node in running:
            wait_until(
                lambda node=node: alive(node) == names,
                f"{node.name} sees {names}",
                timeout_s=START_PATIENCE_S,
            )


def alive(node: Node) -> set[str]:
    """The names of the members that this node sees alive."""
    return {name for name, state in node.members().items() if state == "alive"}
