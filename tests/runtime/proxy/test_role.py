"""Two data planes that share the work: one holds the sockets, the other accepts at them."""

from pathlib import Path

import trio

from meshlb.config.schema import BackendSettings
from meshlb.model import PoolName
from meshlb.proxy.backend import Backend
from meshlb.proxy.role import Role
from tests.runtime.proxy.messages import get, ok
from tests.runtime.proxy.rig import PATIENCE_S, eventually, running
from tests.runtime.proxy.wire import Origin


class Count:
    """Implements `Occupancy` for one backend in one process."""

    def __init__(self) -> None:
        self.mine = 0
        self.others = 0

    def change(self, by: int) -> None:
        self.mine += by

    def here(self) -> int:
        return self.mine

    def everywhere(self) -> int:
        return self.mine + self.others


async def test_clients_wait_at_a_plane_that_does_not_accept_for_one_that_does(
    tmp_path: Path,
) -> None:
    origin = Origin()
    holding, serving = tmp_path / "holding", tmp_path / "serving"
    holding.mkdir()
    serving.mkdir()
    async with running(holding, {"s1": origin.port}, role=Role(accepts_max=0)) as holder:
        client = await holder.exchange(get())
        assert holder.tally.accepted == 0
        shared = {name: sock.dup() for name, sock in holder.plane.sockets.items()}
        async with running(serving, {"s1": origin.port}, role=Role(accepts_max=1), sockets=shared):
            backend = await origin.accept()
            await backend.message()
            await backend.say(ok(b"here"))
            assert (await client.message()).body == b"here"
        assert holder.tally.accepted == 0
        waiting = await holder.client()  # The socket is still open: nobody is refused.
        waiting.stream.socket.close()
        client.stream.socket.close()
    origin.close()


async def test_the_connections_of_a_backend_are_counted_together(tmp_path: Path) -> None:
    count, origin = Count(), Origin()

    def make_backend(pool: PoolName, settings: BackendSettings) -> Backend:
        assert pool == "app"
        return Backend(settings, occupancy=count)

    async with running(tmp_path, {"s1": origin.port}, role=Role(make_backend=make_backend)) as rig:
        client = await rig.exchange(get())
        backend = await origin.accept()
        await backend.message()
        count.others = 5
        assert (rig.backend().in_use, rig.backend().load) == (1, 6)
        await backend.say(ok())
        await client.message()
        await eventually(lambda: rig.backend().in_use == 0)
        assert rig.backend().load == 5
        client.stream.socket.close()
    origin.close()


async def test_a_backend_tells_of_each_change_of_its_state(tmp_path: Path) -> None:
    changes: list[bool] = []

    def make_backend(pool: PoolName, settings: BackendSettings) -> Backend:
        backend = Backend(settings, on_change=lambda: changes.append(backend.takes_pinned))
        return backend

    with trio.fail_after(PATIENCE_S):
        async with running(tmp_path, {"s1": 1}, role=Role(make_backend=make_backend)):
            await eventually(lambda: changes[-1:] == [False])  # Nobody listens there.
