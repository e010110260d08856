"""What the image runs: the entry point, the template, the health check, the way it stops."""

import os
import re
import subprocess
from pathlib import Path

from tests.peers.harness.child import PYTHON, REPOSITORY, Child, wait_until
from tests.peers.harness.mesh import new_secret
from tests.peers.harness.ports import free_port

DOCKER = REPOSITORY / "docker"


def test_the_entry_point_fills_in_the_template_and_becomes_a_node_that_stops_by_sigterm(
    tmp_path: Path,
) -> None:
    secret, admin = new_secret(), f"127.0.0.1:{free_port()}"
    (tmp_path / "secret").write_text(secret + "\n")
    template = tmp_path / "template.toml"
    text = (DOCKER / "node.toml").read_text()
    # What compose provides and this machine does not: its ports, paths and names.
    text = text.replace("/run/secrets/meshlb", str(tmp_path / "secret"))
    text = text.replace("/var/lib/meshlb", str(tmp_path / "state"))
    text = text.replace("dns:mesh:7946", "dns:localhost:7946").replace("127.0.0.1:7900", admin)
    text = re.sub(r":7946\"\n", f':{free_port()}"\n', text)
    text = text.replace("0.0.0.0:8080", f"127.0.0.1:{free_port()}")
    template.write_text(text)
    config = tmp_path / "node.toml"
    node = Child(
        "container",
        ["sh", str(DOCKER / "entrypoint.sh"), PYTHON, "-m", "meshlb", "run", str(config)],
        tmp_path / "log",
        env={
            "TEMPLATE": str(template),
            "CONFIG": str(config),
            "NODE_NAME": "lb-x",
            "NODE_ADDRESS": "127.0.0.1",
        },
    )

    node.start()
    wait_until(lambda: not node.is_running or health(admin) == 0, "the health check passes")
    assert node.is_running, node.output()
    assert 'name = "lb-x"' in config.read_text()
    assert secret not in config.read_text() + node.output()
    assert node.terminate() == 0
    assert health(admin) == 1


def health(admin: str) -> int:
    """The exit status of the image's health check."""
    return subprocess.run(
        [PYTHON, "-m", "meshlb", "status"],
        cwd=REPOSITORY,
        env={**os.environ, "MESHLB_ADMIN": f"http://{admin}"},
        capture_output=True,
        check=False,
    ).returncode
