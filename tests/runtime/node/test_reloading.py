"""A reload of a whole node: what it changes, what it refuses, and what operators said before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from meshlb.cluster.mesh import Mesh
from meshlb.config.loader import load
from meshlb.core.keyring import first_hash_key
from meshlb.errors import ConfigError
from meshlb.model import BackendName, BackendState, NodeName, PoolName
from meshlb.net.reactor import Reactor
from meshlb.node.front import Front
from meshlb.node.reloading import WAITING_MAX, Reloader
from meshlb.proxy.plane import DataPlane
from meshlb.wire.messages import BackendOverride
from tests.runtime.cluster.kit import DictStore, until

FILE = """
[node]
name = "solo"
shutdown_timeout = "3s"
[[listener]]
name = "web"
bind = "127.0.0.1:0"
pool = "app"
[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:1"
"""
SECOND = """
[[pool.app.backend]]
name = "s2"
address = "127.0.0.1:2"
"""
APP = PoolName("app")


class Scene:
    """A node without its admin API, its file, and what it was ordered."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "node.toml"
        self.path.write_text(FILE)
        settings = load(self.path)
        self.reactor = Reactor()
        solo = NodeName("solo")
        self.mesh = Mesh(solo, cluster=None, store=DictStore(), reactor=self.reactor)
        self.plane = DataPlane(
            settings,
            self.mesh.table,
            reactor=self.reactor,
            table_now=self.mesh.clock.now,
            cookie_secrets=(b"s" * 32,),
            key_secret=first_hash_key(b"s" * 32),
        )
        self.reads = 0
        self.reloader = Reloader(
            self._load, settings, mesh=self.mesh, front=Front(self.plane, None), order=self._order
        )

    def _load(self):  # type: ignore[no-untyped-def]  # what `load` gives
        self.reads += 1
        return load(self.path)

    def _order(self, word: BackendOverride) -> None:
        self.plane.pools[word.pool].backends[word.backend].order(word.state)

    def states(self) -> dict[str, BackendState]:
        return {name: backend.state for name, backend in self.plane.pools[APP].backends.items()}

    def faults(self) -> tuple[str, ...]:
        failure = self.reloader.last_failure
        return () if failure is None else failure.faults


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Scene]:
    scene = Scene(folder)
    may_listen = trio.Event()
    may_listen.set()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await scene.plane.run(may_listen=may_listen, task_status=task_status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.reactor.run)
        await nursery.start(run)
        await scene.plane.accepting.wait()
        yield scene
        nursery.cancel_scope.cancel()
    scene.reactor.close()


async def test_a_reload_says_what_has_changed_and_counts_from_then_on(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.reloader.begin()
        before = scene.reloader.loaded_at
        scene.path.write_text(FILE.replace("3s", "4s") + SECOND)
        changes = await scene.reloader.reload()
        assert list(map(str, changes)) == [
            "node.shutdown_timeout: 3s → 4s",
            "pool.app.backend.s2: added",
        ]
        assert scene.reloader.settings == load(scene.path)
        assert scene.reloader.loaded_at > before
        assert await scene.reloader.reload() == ()
        assert scene.reloader.reloads == 2


async def test_a_faulty_file_changes_nothing_and_every_fault_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.reloader.begin()
        before = scene.reloader.settings, scene.reloader.loaded_at, dict(scene.plane.pools)
        for text, faults in (
            (FILE.replace("127.0.0.1:1", "nowhere").replace("3s", "3 years"), 2),
            (FILE.replace("[node]", "[node"), 1),
            (FILE.replace('name = "solo"', 'name = "duo"') + '[admin]\nbind = "127.0.0.1:1"', 2),
            (FILE + '[[listener]]\nname = "x"\nbind = "192.0.2.1:1"\npool = "app"', 1),
            (FILE.replace('pool = "app"', 'pool = "gone"'), 1),
        ):
            scene.path.write_text(text)
            with pytest.raises(ConfigError) as caught:
                await scene.reloader.reload()
            assert len(caught.value.faults) == faults
            assert scene.faults() == tuple(caught.value.faults)
        scene.path.unlink()
        with pytest.raises(ConfigError, match="No such file"):
            await scene.reloader.reload()
        after = scene.reloader.settings, scene.reloader.loaded_at, dict(scene.plane.pools)
        assert after == before
        assert (scene.reloader.reloads, scene.reloader.failures) == (0, 6)
        scene.path.write_text(FILE)
        await scene.reloader.reload()
        assert scene.faults() == ()


async def test_what_needs_a_restart_is_said_by_its_place(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.reloader.begin()
        scene.path.write_text(FILE.replace('name = "solo"', 'name = "duo"'))
        with pytest.raises(ConfigError, match=r"node\.name: solo → duo; this needs a restart"):
            await scene.reloader.reload()


async def test_what_an_upgrade_can_change_is_said_to_need_one(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.reloader.begin()
        scene.path.write_text(FILE.replace("[node]", "[node]\nworkers = 2"))
        needed = r"node\.workers: 0 → 2; this needs `meshlb upgrade`, or a restart"
        with pytest.raises(ConfigError, match=needed):
            await scene.reloader.reload()


async def test_what_was_said_of_a_backend_counts_once_it_is_there(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.reloader.begin()
        s2 = BackendName("s2")
        await scene.mesh.set_backend_state(APP, s2, BackendState.MAINTENANCE)
        scene.path.write_text(FILE + SECOND)
        await scene.reloader.reload()
        assert scene.states()["s2"] is BackendState.MAINTENANCE
        scene.path.write_text(FILE + SECOND.replace("127.0.0.1:2", "127.0.0.1:3"))
        await scene.reloader.reload()
        assert scene.states()["s2"] is BackendState.MAINTENANCE


async def test_a_reload_waits_for_the_start_and_for_the_one_before_it(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX):
            nursery.start_soon(scene.reloader.reload)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.reads == 0
        assert scene.reloader.is_waiting
        with pytest.raises(ConfigError, match="waiting already"):
            await scene.reloader.reload()
        scene.path.write_text(FILE + SECOND)
        scene.reloader.begin()
        await until(lambda: scene.reloader.reloads == WAITING_MAX)
        assert set(scene.states()) == {"s1", "s2"}


async def test_a_node_that_leaves_takes_no_other_configuration(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.reloader.begin()
        await scene.plane.drain(timeout_s=1)
        scene.path.write_text(FILE + SECOND)
        with pytest.raises(ConfigError, match="leaving"):
            await scene.reloader.reload()
        assert set(scene.states()) == {"s1"}
