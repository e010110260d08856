"""Reloads of a node under traffic: nobody is lost, no request fails, and each change counts."""

import asyncio
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.peers.conftest import StartBackends, StartMesh
from tests.peers.harness.child import PYTHON, REPOSITORY, wait_until
from tests.peers.harness.http import fetch
from tests.peers.harness.live import Live, live
from tests.peers.harness.mesh import Node
from tests.peers.harness.ports import free_port
from tests.peers.test_shutdown import at_backend

RELOADS = 12


def replace_in_file(node: Node, *changes: tuple[str, str]) -> None:
    text = node.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    node.config.write_text(text)


def meshlb(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, as an operator gives it."""
    argv = [PYTHON, "-m", "meshlb", *arguments, "--admin", f"http://127.0.0.1:{node.admin_port}"]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def reloads(node: Node) -> int:
    return node.output().count("configuration reloaded")


async def reload_by_signal(node: Node) -> None:
    before = reloads(node)
    node.signal(signal.SIGHUP)
    await eventually(lambda: reloads(node) > before, "the reload is in the log")


async def eventually(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


async def more(going: Live, backends: Sequence[str]) -> None:
    """Each of `backends` answers somebody again."""
    before = going.answered.copy()
    await eventually(
        lambda: all(going.answered[name] > before[name] for name in backends),
        f"each of {backends} answers",
    )


def test_reloads_under_traffic_lose_no_socket_and_fail_no_request(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    backends = start_backends("mirror", 3)
    mesh = start_mesh(backends=backends, size=1, balance="round-robin")
    (node,) = mesh.nodes
    third = node.config.read_text()[node.config.read_text().rindex("[[pool.app.backend]]") :]
    second_door = free_port()

    async def scenario() -> None:
        async with live(node.door) as going:
            for number in range(RELOADS):
                replace_in_file(node, (f' idle = "{120 + number}s"', f' idle = "{121 + number}s"'))
                await reload_by_signal(node)
                assert number + 1 == reloads(node)
            await more(going, ["s1", "s2", "s3"])
            # A backend goes, and its tunnels stay; it comes back and serves anew.
            going.removed.add("s3")
            replace_in_file(node, (third, ""))
            await reload_by_signal(node)
            before = going.answered["s3"]
            await more(going, ["s1", "s2"])
            assert going.answered["s3"] <= before + 16
            node.config.write_text(node.config.read_text() + third)
            await reload_by_signal(node)
            async with asyncio.timeout(30):
                while (await fetch(node.door)).backend != "s3":
                    pass
            # A faulty file changes nothing, and says so.
            good = node.config.read_text()
            replace_in_file(node, ('pool = "app"', 'pool = "gone"'), ("max_head", "max_heads"))
            refused = await asyncio.to_thread(meshlb, node, "reload")
            assert refused.returncode == 1
            assert "listener[0].pool" in refused.stderr
            assert "max_heads: unknown key" in refused.stderr
            assert len(node.status()["config"]["faults"]) == 2
            # The listener moves, and its clients stay.
            node.config.write_text(good)
            replace_in_file(node, (f":{node.port}", f":{second_door}"))
            told = await asyncio.to_thread(meshlb, node, "reload")
            assert told.stdout.startswith("listener.web.bind: "), told
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await fetch(node.door)
            assert (await fetch(second_door)).status == 200
            going.door = second_door
            await more(going, ["s1", "s2"])
            assert going.closed_idle == 0
            assert node.metric("meshlb_connections", kind="tunnels") == len(going.tunnels)

    asyncio.run(scenario())
    assert node.status()["config"]["faults"] == []


def test_signals_during_start_and_during_drain_are_right(
    start_backends: StartBackends, start_mesh: StartMesh
) -> None:
    mesh = start_mesh(backends=start_backends("plain", 1), size=1, shutdown_timeout="10m")
    (node,) = mesh.nodes
    node.terminate()
    node.start()
    wait_until(lambda: Path(f"/proc/{node.pid}/status").exists(), "the process is there")
    blocks_hangup = 1 << (signal.SIGHUP - 1)

    def is_careful() -> bool:
        status = Path(f"/proc/{node.pid}/status").read_text()
        masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
        return bool((int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)) & blocks_hangup)

    wait_until(is_careful, "the node is past the first lines of its start")
    node.signal(signal.SIGHUP)
    mesh.wait_ready()
    wait_until(lambda: reloads(node) == 1, "the signal of the start was obeyed")

    async def scenario() -> None:
        answer = asyncio.create_task(fetch(node.door, "/slow?ms=3000"))
        await at_backend(node)
        node.signal(signal.SIGTERM)
        await eventually(lambda: "node leaves" in node.output(), "the node leaves")
        node.signal(signal.SIGHUP)
        assert (await answer).status == 200

    asyncio.run(scenario())
    assert node.wait() == 0
    assert reloads(node) == 1
