"""New programs that cannot take over, and sockets that are inherited."""

import socket
import sys
from pathlib import Path

import pytest

from meshlb.config import Settings
from meshlb.config.loader import load
from meshlb.errors import HandOverError
from meshlb.model import Address
from meshlb.net.parcels import Parcel, ParcelService
from meshlb.node import upgrading
from meshlb.node.doors import Doors
from meshlb.node.upgrading import (
    CONVERSATION,
    ENVIRONMENT,
    Heritage,
    UpgradeError,
    Upgrader,
    directory_in,
    identity,
)
from tests.descriptors import open_descriptors
from tests.peers.harness.ports import free_port

PORT = free_port()
FILE = """
[node]
name = "solo"
data_dir = "state"
[admin]
bind = "unix:admin.sock"
[cluster]
name = "shop"
bind = "127.0.0.1:CLUSTER"
secrets = ["QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="]
[[listener]]
name = "web"
bind = "127.0.0.1:0"
pool = "app"
[[listener]]
name = "dns"
bind = "127.0.0.1:0"
protocol = "udp"
pool = "app"
[pool.app.health]
protocol = "udp"
[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:1"
"""
HELLO = """
import trio
from meshlb.node.upgrading import Heritage
from meshlb.net.parcels import Parcel

async def run():
    heritage = Heritage.expected()
    await heritage._service.send({parcel})
    await trio.sleep_forever()

trio.run(run)
"""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to start a program."""
    monkeypatch.setattr(upgrading, "START_S_MAX", 120.0)


def settings(folder: Path, *changes: tuple[str, str]) -> Settings:
    text = FILE.replace("CLUSTER", str(PORT)).replace("unix:", f"unix:{folder}/")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "node.toml"
    path.write_text(text)
    return load(path)


def hello(**facts: object) -> str:
    return HELLO.format(parcel=f'Parcel("hello", {facts!r})')


async def refusal(folder: Path, program: str, *changes: tuple[str, str]) -> UpgradeError:
    upgrader = Upgrader([sys.executable, "-c", program])
    with pytest.raises(UpgradeError) as caught:
        await upgrader.start(settings(folder, *changes))
    assert upgrader.heir is None
    return caught.value


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import nothing_of_that_name", "ended with status 1"),
        ("import os; os._exit(0)", "ended with status 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with status -9"),
        (hello(conversation=99, version="9", identity={}), "does not know how to take over"),
        (hello(conversation=CONVERSATION, version="9", identity={}), "another node's"),
        (HELLO.format(parcel='Parcel("ready")'), "does not know how to take over"),
        (HELLO.format(parcel='Parcel("faults", ["a", "b"])'), "refuses its configuration"),
    ],
)
async def test_a_program_that_cannot_take_over_is_ended_and_the_reason_is_told(
    tmp_path: Path, program: str, reason: str
) -> None:
    before = open_descriptors()
    error = await refusal(tmp_path, program)
    assert reason in str(error)
    assert error.faults == (("a", "b") if "faults" in program else ())
    assert open_descriptors() <= before


async def test_a_program_that_is_not_there_is_a_reason_too(tmp_path: Path) -> None:
    upgrader = Upgrader([str(tmp_path / "nothing")])
    with pytest.raises(UpgradeError, match="cannot be started"):
        await upgrader.start(settings(tmp_path))
    assert upgrader.failed_at is not None
    assert "cannot be started" in upgrader.failure


async def test_a_heritage_is_claimed_by_who_the_new_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Heritage.expected() is None
    service, there = ParcelService.pair()
    monkeypatch.setenv(ENVIRONMENT, str(there.detach()))
    heritage = Heritage.expected()
    assert heritage is not None
    assert Heritage.expected() is None, "it is for this process, and for none that it starts"
    mine = settings(tmp_path)
    facts = {"listeners": [], "cluster": 0, "directory": "/where/it/is"}
    await service.send(Parcel("sockets", facts))
    inherited = await heritage.claim(mine)
    assert inherited.what == "sockets"
    assert directory_in(inherited) == Path("/where/it/is")
    assert directory_in(None) is None
    assert (await service.expect("hello")).facts["identity"] == identity(mine)
    service.close()
    with pytest.raises(HandOverError):
        await heritage._service.receive()
    heritage._service.close()


def as_inherited(doors: Doors, named: dict[str, socket.socket]) -> Parcel:
    sockets = [*named.values(), *doors.cluster, doors.admin.sock]
    facts = {"listeners": list(named), "cluster": len(doors.cluster)}
    return Parcel("sockets", facts, [sock.dup() for sock in sockets])


def listening() -> dict[str, socket.socket]:
    web = socket.create_server(("127.0.0.1", 0))
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind(("127.0.0.1", 0))
    return {"web": web, "dns": dns}


async def test_doors_that_are_bound_as_configured_are_gone_on_with(tmp_path: Path) -> None:
    before = open_descriptors()
    mine, named = settings(tmp_path), listening()
    first = Doors(mine)
    second = Doors(mine, as_inherited(first, named))
    assert second.admin.place == first.admin.place
    assert [s.getsockname() for s in second.cluster] == [s.getsockname() for s in first.cluster]
    for name, sock in named.items():
        assert second.listeners[name].getsockname() == sock.getsockname()
    first.hand_over()
    path = tmp_path / "admin.sock"
    assert path.is_socket(), "it is the other's now"
    second.close()
    assert not path.exists()
    for sock in named.values():
        sock.close()
    assert open_descriptors() <= before


async def test_what_is_bound_elsewhere_is_closed_and_bound_anew(tmp_path: Path) -> None:
    before = open_descriptors()
    first, named = Doors(settings(tmp_path)), listening()
    changed = settings(
        tmp_path,
        (f'"unix:{tmp_path}/admin.sock"', '"127.0.0.1:0"'),
        (f"127.0.0.1:{PORT}", f"127.0.0.2:{PORT}"),
        ('name = "web"\nbind = "127.0.0.1:0"', 'name = "web"\nbind = "127.0.0.2:0"'),
        ('name = "dns"', 'name = "other"'),
    )
    inherited = as_inherited(first, named)
    second = Doors(changed, inherited)
    assert isinstance(second.admin.place, Address)
    assert second.listeners == {}
    assert second.cluster[0].getsockname() != first.cluster[0].getsockname()
    second.close()
    first.close()
    for sock in named.values():
        sock.close()
    assert open_descriptors() <= before
