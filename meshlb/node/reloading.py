"""A reload: the configuration file is read again, and the node goes by it without losing a socket.

Owns the order: read and check everything, do all that can fail, then change everything in one
step, so that a fault changes nothing. What a node is (its name, its ports, its place on the disk)
it stays until it is restarted: a file that says otherwise is refused as a whole, so that a node
never runs by half of a file.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from meshlb.cluster.mesh import Mesh
from meshlb.cluster.options import ClusterOptions
from meshlb.config import Settings
from meshlb.config.changes import Difference, differences
from meshlb.errors import ConfigError
from meshlb.node.front import Front
from meshlb.proxy.backend import Backend
from meshlb.wire.messages import BackendOverride

WAITING_MAX = 8
"""Reloads that wait for the one under way; further ones are refused."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Failure:
    """A reload that changed nothing."""

    at: float
    """Seconds of the wall clock."""
    faults: tuple[str, ...]


class Reloader:
    """One per node.

    Attributes:
        settings: those in force.
        loaded_at: when they came into force, in seconds of the wall clock.
        reloads: how many have succeeded.
        failures: how many have failed.
        last_failure: the latest, until one succeeds.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        settings: Settings,
        *,
        mesh: Mesh,
        front: Front,
        order: Callable[[BackendOverride], None],
    ) -> None:
        """Wire it.

        Args:
            load: reads and checks the file; it may take its time, and raises `ConfigError`.
            settings: what the node was started with.
            mesh: this node's; it knows what operators have said.
            front: this node's.
            order: makes an operator's word on a backend count.
        """
        self._load = load
        self._mesh, self._front = mesh, front
        self._order = order
        self._turn = trio.Lock()
        self._waiting = 0
        self._may_begin = trio.Event()
        self.settings = settings
        self.loaded_at = time.time()
        self.reloads = self.failures = 0
        self.last_failure: Failure | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether one waits that has not read the file yet."""
        return self._waiting > 0

    def begin(self) -> None:
        """The node has started: reloads that wait may go on."""
        self._may_begin.set()

    async def reload(self) -> tuple[Difference, ...]:
        """Read the file and go by it; one at a time.

        Returns:
            What has changed.

        Raises:
            ConfigError: with every fault of the file, and all else that stands against it; nothing
                has changed.
        """
        if self._waiting >= WAITING_MAX:
            raise ConfigError([f"{WAITING_MAX} reloads are waiting already; try again"])
        self._waiting += 1
        try:
            await self._may_begin.wait()
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._reload()
        except ConfigError as error:
            self.failures += 1
            self.last_failure = Failure(time.time(), tuple(error.faults))
            log.error("reload failed; nothing was changed", faults=error.faults)
            raise
        finally:
            self._turn.release()

    async def _reload(self) -> tuple[Difference, ...]:
        settings, cluster = await trio.to_thread.run_sync(self._read)
        found = differences(self.settings, settings)
        faults = [f"{each}; {_remedy(each)}" for each in found if each.needs_restart]
        if cluster is not None and self._mesh.keys is not None:
            refusal = self._mesh.keys.refusal_of(cluster.secrets)
            faults += [f"cluster.secrets: {refusal}"] if refusal is not None else []
        if faults:
            raise ConfigError(faults)
        self._refuse_if_leaving()
        change = await self._front.prepare(settings)
        try:
            self._refuse_if_leaving()
        except ConfigError:
            change.close()
            raise
        # From here on nothing waits and nothing fails.
        known = self._backends()
        self._front.commit(change)
        self._order_new(known)
        if cluster is not None:
            self._mesh.use(cluster)
        self.settings, self.loaded_at, self.last_failure = settings, time.time(), None
        self.reloads += 1
        await self._front.caught_up()
        log.info("configuration reloaded", changes=[str(each) for each in found])
        return found

    def _refuse_if_leaving(self) -> None:
        if self._front.draining:
            raise ConfigError(["the node is leaving; it takes no other configuration"])
        if self._front.resting:
            raise ConfigError(["another process is about to take over; tell that one"])

    def _backends(self) -> set[Backend]:
        pools = self._front.pools.values()
        return {backend for pool in pools for backend in pool.backends.values()}

    def _order_new(self, known: set[Backend]) -> None:
        """What operators have said counts for backends that were not here when they said it."""
        for word in self._mesh.overrides():
            pool = self._front.pools.get(word.pool)
            backend = None if pool is None else pool.backends.get(word.backend)
            if backend is not None and backend not in known:
                self._order(word)

    def _read(self) -> tuple[Settings, ClusterOptions | None]:
        settings = self._load()
        cluster = settings.cluster
        return settings, None if cluster is None else ClusterOptions.of(cluster)


def _remedy(refused: Difference) -> str:
    if refused.needs_another_node:
        return "this needs a restart"
    return "this needs `meshlb upgrade`, or a restart"
