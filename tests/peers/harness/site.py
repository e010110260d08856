"""A mesh on a network of its own: every node, every backend and the clients are hosts of it."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.peers.harness import backends
from tests.peers.harness.backends import Backend
from tests.peers.harness.mesh import Mesh, Plan, new_secret
from tests.peers.harness.network import Host, Network
from tests.peers.harness.views import wait_equal, wait_views

T = TypeVar("T")

HEAL_PATIENCE_S = 180.0
"""When a heal counts as failed; what it should take is printed beside what it took."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running mesh; `hosts[i]` is where `mesh.nodes[i]` runs."""

    network: Network
    mesh: Mesh
    hosts: Sequence[Host]
    backends: Sequence[Backend]
    clients: Host

    @classmethod
    def build(cls, network: Network, folder: Path, *, size: int, mode: str = "available") -> "Site":
        """Three nginx and `size` nodes, started and ready."""
        started = [backends.nginx(f"s{number}", folder, network.host()) for number in range(1, 4)]
        hosts = [network.host() for _ in range(size)]
        plan = Plan(backends=started, secret=new_secret(), mode=mode)
        site = cls(network, Mesh(folder, plan, places=hosts), hosts, started, network.host())
        backends.start(started)
        site.mesh.start()
        return site

    def run(self, clients: Coroutine[Any, Any, T]) -> T:
        """Run what clients do, at the clients' host."""
        with self.clients.entered():
            return asyncio.run(clients)

    def cut(self, *sides: Sequence[int]) -> None:
        """Cut the nodes of different sides off each other; nodes are given by their index."""
        self.network.cut(*[[self.hosts[index] for index in side] for side in sides])

    def wait_cut(self, *sides: Sequence[int]) -> None:
        """Wait until each side sees itself alive and all others dead."""
        for side in sides:
            wait_views([self.mesh.nodes[index] for index in side])

    def heal(self) -> float:
        """Heal, and wait for one view and equal tables; the seconds that took."""
        began_at = time.monotonic()
        self.network.heal()
        return self.wait_whole(began_at)

    def wait_whole(self, began_at: float) -> float:
        """Wait for one view and equal tables of all nodes; the seconds since `began_at`."""
        wait_views(self.mesh.nodes, timeout_s=HEAL_PATIENCE_S)
        wait_equal(self.mesh.nodes, timeout_s=HEAL_PATIENCE_S)
        return time.monotonic() - began_at
