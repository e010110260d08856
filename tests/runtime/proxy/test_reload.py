"""Other settings while clients are connected: what stays, what drains, and from when on."""

from pathlib import Path

import pytest
import trio

from meshlb.config.loader import load
from meshlb.errors import ConfigError
from meshlb.model import Address, BackendState, PoolName
from tests.runtime.proxy.messages import get, ok
from tests.runtime.proxy.rig import Rig, eventually, scripted
from tests.runtime.proxy.wire import Origin

BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'


class Scene:
    """A rig, and the file that it was started from."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self.rig = rig
        self.path = directory / "rig.toml"

    async def change(self, *changes: tuple[str, str], more: str = "") -> None:
        """Replace parts of the file, append to it, and apply it."""
        text = self.path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.path.write_text(text + more)
        await self.rig.plane.apply(load(self.path))

    def add_backend(self, name: str) -> str:
        """A backend that the test plays, and its lines in the file."""
        origin = self.rig.origins[name] = Origin()
        return f'\n[[pool.app.backend]]\nname = "{name}"\naddress = "127.0.0.1:{origin.port}"\n'

    def lines_of(self, name: str) -> str:
        port = self.rig.origins[name].port
        return f'[[pool.app.backend]]\nname = "{name}"\naddress = "127.0.0.1:{port}"'


async def refuses(address: Address) -> None:
    with trio.socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        await sock.connect((address.host, address.port))


async def test_nothing_that_is_open_notices_a_reload_that_changes_nothing(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        before = rig.backend()
        for _ in range(3):
            await scene.change()
        await backend.say(ok(b"late"))
        assert (await client.message()).body == b"late"
        assert rig.backend() is before
        await client.say(get())
        await backend.message()
        await backend.say(ok(b"again"))
        assert (await client.message()).body == b"again"


async def test_a_new_backend_is_probed_before_it_serves_and_serves_at_once_if_it_is_well(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        well, ill = scene.add_backend("s2"), scene.add_backend("s3")
        rig.origins["s3"].close()
        await scene.change(more=well + ill)
        assert rig.backend("s2").state is BackendState.UP
        assert rig.backend("s3").state is BackendState.DOWN
        client = await rig.exchange(get())
        backend = await rig.accept("s1")
        await backend.message()
        await backend.say(ok())
        await client.message()
        other = await rig.exchange(get())
        backend = await rig.accept("s2")
        await backend.message()
        await backend.say(ok())
        await other.message()


async def test_what_runs_at_a_removed_backend_ends_there_and_what_follows_goes_elsewhere(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        scene = Scene(rig, tmp_path)
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        old = await rig.accept("s1")
        await old.message()
        await scene.change((scene.lines_of("s1"), ""))
        await old.say(ok(b"from s1"))
        assert (await client.message()).body == b"from s1"
        await old.gone()
        await client.say(get(b"/", b"X-Key: k"))
        new = await rig.accept("s2")
        await new.message()
        await new.say(ok(b"from s2"))
        assert (await client.message()).body == b"from s2"


async def test_idle_connections_to_a_removed_backend_are_closed_and_to_others_are_kept(tmp_path):
    async with scripted(tmp_path, "s1", "s2") as rig:
        scene = Scene(rig, tmp_path)
        kept = {}
        for name in ("s1", "s2"):
            client = await rig.exchange(get())
            kept[name] = await rig.accept(name)
            await kept[name].message()
            await kept[name].say(ok())
            await client.message()
        await scene.change((scene.lines_of("s1"), ""))
        await kept["s1"].gone()
        await client.say(get())
        await kept["s2"].message()
        await kept["s2"].say(ok())
        await client.message()


async def test_a_backend_under_a_new_address_is_another_one(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        client = await rig.exchange(get())
        old = await rig.accept("s1")
        await old.message()
        elsewhere = Origin()
        await scene.change((f":{rig.origins['s1'].port}", f":{elsewhere.port}"))
        rig.origins["s1 elsewhere"] = elsewhere
        await old.say(ok(b"old"))
        assert (await client.message()).body == b"old"
        await client.say(get())
        new = await rig.accept("s1 elsewhere")
        await new.message()
        await new.say(ok(b"new"))
        assert (await client.message()).body == b"new"


async def test_what_a_kept_backend_has_learnt_is_kept(tmp_path):
    async with scripted(tmp_path, "s1", "s2") as rig:
        scene = Scene(rig, tmp_path)
        rig.backend("s1").order(BackendState.DRAINING)
        rig.backend("s2").set_healthy(False)
        before = rig.backend("s1")
        await scene.change(
            (scene.lines_of("s1"), scene.lines_of("s1") + "\nweight = 7"),
            ('interval = "10m"', 'interval = "9m"\nfall = 9'),
        )
        assert rig.backend("s1") is before
        assert rig.backend("s1").weight == 7
        assert rig.backend("s1").state is BackendState.DRAINING


async def test_other_health_checks_begin_at_once(tmp_path):
    async with scripted(tmp_path, health='interval = "10m"') as rig:
        scene = Scene(rig, tmp_path)
        await scene.change(('interval = "10m"', 'interval = "50ms"\nfall = 1\ntimeout = "200ms"'))
        assert rig.backend().state is BackendState.UP
        rig.origins["s1"].close()
        await eventually(lambda: rig.backend().state is BackendState.DOWN)
        assert rig.backend().state is BackendState.DOWN


async def test_a_listener_that_moves_keeps_its_clients_and_answers_at_the_new_address(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        busy = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        old = rig.address
        waiting = rig.connect_now()
        await scene.change(("127.0.0.1:0", "127.0.0.2:0"))
        assert rig.address.host == "127.0.0.2"
        await backend.say(ok())
        await busy.message()
        for client in (busy, waiting, await rig.client()):
            await client.say(get())
            await backend.message()
            await backend.say(ok(b"here"))
            assert (await client.message()).body == b"here"
        await refuses(old)


async def test_a_removed_listener_lets_its_clients_end_and_refuses_others(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        address = rig.address
        idle = await rig.client()
        busy = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        await eventually(lambda: rig.tally.connections == 2)
        await scene.change(('name = "web"', 'name = "other"'))
        await idle.ended()
        await backend.say(ok(b"last"))
        answer = await busy.message()
        assert (answer.body, answer["connection"]) == (b"last", b"close")
        await busy.ended()
        assert list(rig.plane.addresses) == ["other"]
        await refuses(address)
        busy.close_now()
        await eventually(lambda: not rig.tally.connections)
        await scene.change()
        assert list(rig.plane.counters.listeners) == ["other"]
        rig.plane.counters.listeners["web"] = rig.plane.counters.listeners["other"]


async def test_two_listeners_can_swap_their_addresses_and_a_renamed_one_keeps_its_own(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        second = '\n[[listener]]\nname = "two"\nbind = "127.0.0.3:0"\npool = "app"\n'
        await scene.change(more=second)
        one, two = rig.plane.addresses["web"], rig.plane.addresses["two"]
        await scene.change(("127.0.0.1:0", str(one)), ("127.0.0.3:0", str(two)))
        await scene.change((f'"{one}"', '"swap"'), (f'"{two}"', f'"{one}"'), ('"swap"', f'"{two}"'))
        assert rig.plane.addresses == {"web": two, "two": one}
        sockets = {sock.getsockname()[0] for sock in rig.plane.sockets.values()}
        await scene.change(('name = "two"', 'name = "three"'))
        assert rig.plane.addresses == {"web": two, "three": one}
        assert {sock.getsockname()[0] for sock in rig.plane.sockets.values()} == sockets
        for address in (one, two):
            stream = await trio.open_tcp_stream(address.host, address.port)
            await stream.aclose()


async def test_an_address_in_use_is_a_fault_and_changes_nothing(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        before = rig.plane.sockets, dict(rig.plane.pools)
        taken = rig.origins["s1"].port
        second = f'\n[[listener]]\nname = "two"\nbind = "127.0.0.1:{taken}"\npool = "app"\n'
        third = '\n[[listener]]\nname = "three"\nbind = "192.0.2.1:80"\npool = "app"\n'
        with pytest.raises(ConfigError) as caught:
            await scene.change(more=second + third)
        assert [fault.partition(":")[0] for fault in caught.value.faults] == [
            "listener.two.bind",
            "listener.three.bind",
        ]
        assert (rig.plane.sockets, dict(rig.plane.pools)) == before


async def test_other_rules_hold_from_the_next_request_on(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        scene = Scene(rig, tmp_path)
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        backend = await rig.accept("s1")
        await backend.message()
        await scene.change(('name = "X-Key"', 'name = "X-Other"'))
        await backend.say(ok())
        await client.message()
        await client.say(get(b"/", b"X-Other: o"))
        backend = await rig.accept("s2")
        await backend.message()
        await backend.say(ok())
        await client.message()
        assert len({proposal.key for proposal in rig.table.claims}) == 2


async def test_a_request_that_is_being_decided_stays_with_the_pool_it_began_with(tmp_path):
    async with scripted(tmp_path, "s1", "s2", sticky=BY_HEADER) as rig:
        scene = Scene(rig, tmp_path)
        rig.table.answers = trio.Event()
        client = await rig.exchange(get(b"/", b"X-Key: k"))
        await eventually(lambda: bool(rig.table.claims))
        other = rig.origins["t1"] = Origin()
        pool = f'\n[pool.two]\nbackend = [{{ name = "t1", address = "127.0.0.1:{other.port}" }}]\n'
        await scene.change(('pool = "app"', 'pool = "two"'), more=pool)
        rig.origins["s1"].close()
        rig.table.answers.set()
        backend = await rig.accept("s2")
        await backend.message()
        await backend.say(ok(b"app"))
        assert (await client.message()).body == b"app"
        await client.say(get())
        backend = await rig.accept("t1")
        await backend.message()
        await backend.say(ok(b"two"))
        assert (await client.message()).body == b"two"


async def test_a_removed_pool_ends_what_runs_in_it(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        client = await rig.exchange(get())
        backend = await rig.accept()
        await backend.message()
        retired = rig.backend()
        await scene.change(('pool = "app"', 'pool = "new"'), ("[pool.app]", "[pool.new]"),
                           ("[pool.app.health]", "[pool.new.health]"),
                           ("[[pool.app.backend]]", "[[pool.new.backend]]"))  # fmt: skip
        assert set(rig.plane.pools) == {PoolName("new")}
        await backend.say(ok(b"last"))
        assert (await client.message()).body == b"last"
        await backend.gone()
        assert retired.connections == 0


async def test_settings_change_before_clients_are_let_in(tmp_path):
    async with scripted(tmp_path, may_listen=False) as rig:
        scene = Scene(rig, tmp_path)
        second = '\n[[listener]]\nname = "two"\nbind = "127.0.0.3:0"\npool = "app"\n'
        await scene.change(("127.0.0.1:0", "127.0.0.2:0"), more=second)
        await refuses(rig.address)
        rig.may_listen.set()
        await rig.plane.accepting.wait()
        for address in rig.plane.addresses.values():
            stream = await trio.open_tcp_stream(address.host, address.port)
            await stream.aclose()


async def test_a_plane_that_drains_takes_no_other_settings(tmp_path):
    async with scripted(tmp_path) as rig:
        scene = Scene(rig, tmp_path)
        await rig.plane.drain(timeout_s=1)
        await scene.change(("127.0.0.1:0", "127.0.0.2:0"))
        assert rig.address.host == "127.0.0.1"
