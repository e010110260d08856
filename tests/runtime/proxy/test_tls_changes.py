"""TLS at listeners whose settings change, or whose node leaves, while clients are connected."""

from pathlib import Path

import pytest
import trio

from meshlb.config.loader import load
from meshlb.errors import ConfigError
from tests.runtime.proxy.messages import get, ok
from tests.runtime.proxy.rig import eventually, scripted
from tests.runtime.proxy.tls import NAME, Site, TlsEnd, exchange
from tests.runtime.proxy.wire import Wire


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_new_files_are_shown_after_a_reload_and_broken_ones_are_not(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        before = await site.client(rig)
        newer = site.authority.sign("newer", names=(NAME, "newer.example"))
        site.files.cert.write_bytes(newer.cert.read_bytes())
        settings = rig.plane._settings
        with pytest.raises(ConfigError, match="meshlb check"):
            await rig.plane.apply(settings)
        await exchange(rig, before)
        site.files.key.write_bytes(newer.key.read_bytes())
        await rig.plane.apply(settings)
        await exchange(rig, before)
        client = await site.client(rig, name="newer.example")
        await exchange(rig, client)


async def test_a_listener_that_turns_to_tls_sends_its_plain_clients_away(tmp_path, site):
    """Backends would be told that they came by TLS."""
    async with scripted(tmp_path) as rig:
        idle = await rig.client()
        await eventually(lambda: rig.tally.connections == 1)
        path = tmp_path / "rig.toml"
        path.write_text(path.read_text().replace("[pool.app]", f"{site.listener}\n[pool.app]"))
        await rig.plane.apply(load(path))
        await idle.ended()
        await exchange(rig, await site.client(rig))


async def test_who_is_in_the_handshake_when_the_node_drains_is_still_let_in(tmp_path, site):
    async with scripted(tmp_path, listener=site.listener) as rig:
        raw = await rig.client()
        tls = trio.SSLStream(raw.stream, site.trust(), server_hostname=NAME)
        await eventually(lambda: rig.tally.connections == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: rig.plane.drain(timeout_s=5))
            await eventually(lambda: rig.plane.draining)
            client = Wire(TlsEnd(tls))
            nursery.start_soon(client.say, get())
            backend = await rig.accept()
            await backend.message()
            await backend.say(ok(b"bye"))
            assert (await client.message())["connection"] == b"close"
            await client.ended()
            client.stream.socket.close()
