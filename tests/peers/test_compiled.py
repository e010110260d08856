"""The program as `MESHLB_COMPILE=1 pip install` builds it, apart from the source, and run for real.

The whole of `tests/runtime` and `tests/peers` runs against it by hand: `make compiled`, then
`make test PYTEST_ARGS="tests/runtime tests/peers"` with `MESHLB_TEST_COMPILED=1`.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests import native
from tests.peers.conftest import StartBackends
from tests.peers.harness.child import PYTHON
from tests.peers.harness.http import Connection, fetch
from tests.peers.harness.mesh import COOKIE, Mesh, Plan, new_secret

SOURCES = ("meshlb", "pyproject.toml", "setup.py", "README.md", "LICENSE")
BUILD_TIMEOUT_S = 900
REQUESTS = 50
NO_INDEX = "Could not find a version that satisfies the requirement"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder with the compiled program; built without optimisation, which takes a third."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no C compiler ({compiler})")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("the headers of this Python are not installed")
    source, target = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (native.REPOSITORY / name).is_dir() else shutil.copy
        copy(native.REPOSITORY / name, source / name)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-deps",
            "--target",
            str(target),
            str(source),
        ],
        env={**os.environ, "MESHLB_COMPILE": "1", "MYPYC_OPT_LEVEL": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )
    if NO_INDEX in ran.stderr:
        pytest.skip("mypyc is not to be had: pip reaches no package index")
    assert ran.returncode == 0, ran.stderr[-4000:]
    return target


@pytest.mark.slow
def test_a_compiled_node_says_so_and_serves_sessions_and_websockets(
    built: Path, start_backends: StartBackends, tmp_path: Path
) -> None:
    version = subprocess.run(
        [PYTHON, "-m", "meshlb", "--version"],
        env={**os.environ, **native.environment(built)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert version.endswith(", compiled\n")
    plan = Plan(backends=start_backends("echo", 3), sticky=[COOKIE], secret=new_secret())
    mesh = Mesh(tmp_path / "mesh", plan, size=2)
    for node in mesh.nodes:
        node.set_environment(**native.environment(built))
    mesh.start()
    assert [node.status()["compiled"] for node in mesh.nodes] == [True, True]
    asyncio.run(_visit(*mesh.ports))
    assert all(node.terminate() == 0 for node in mesh.nodes)
    assert not [node.output() for node in mesh.nodes if "Traceback" in node.output()]


async def _visit(*ports: int) -> None:
    """Be one session: requests, and a WebSocket, through one node and the other."""
    first = await fetch(ports[0])
    assert first.cookie is not None
    identity = {"Cookie": first.cookie}
    for number in range(REQUESTS):
        assert (await fetch(ports[number % 2], f"/?{number}", identity)).backend == first.backend
    async with await Connection.open(ports[1]) as kept:
        refused = await kept.request("/", fields={"Content-Length": "1, 2"})
        assert refused.status == 400
    url = f"ws://127.0.0.1:{ports[1]}/chat"
    async with connect(url, additional_headers=identity) as websocket:
        name, _ = str(await websocket.recv()).split()
        assert name == first.backend
        for size in (0, 125, 70_000):
            await websocket.send(bytes(size))
            assert await websocket.recv() == bytes(size)
