from pathlib import Path

import pytest

from tests.unit.cli.conftest import Invoke

GOOD = """
[[listener]]
name = "web"
bind = "127.0.0.1:8080"
pool = "app"
[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:9001"
"""


def test_a_good_file_is_exit_0(invoke: Invoke, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(GOOD)
    result = invoke("check", str(config))
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("command", ["check", "run"])
def test_every_fault_is_a_line_and_exit_2(invoke: Invoke, tmp_path: Path, command: str) -> None:
    config = tmp_path / "node.toml"
    config.write_text(GOOD.replace("8080", "808080").replace('pool = "app"', 'pool = "ap"'))
    result = invoke(command, str(config))
    assert result.exit_code == 2
    assert result.stdout == ""
    faults = result.stderr.splitlines()
    assert len(faults) == 2
    assert 'listener[0].bind = "127.0.0.1:808080": expected an IP address' in faults[0]
    assert 'listener[0].pool = "ap"' in faults[1]
    assert 'did you mean "app"?' in faults[1]


def test_a_missing_file_is_exit_2(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("check", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert result.stderr == f"meshlb: {tmp_path}/none.toml: No such file or directory\n"


def test_check_opens_no_port(invoke: Invoke, tmp_path: Path, admin: str) -> None:
    config = tmp_path / "node.toml"
    bind = admin.removeprefix("http://")
    config.write_text(f'{GOOD}\n[admin]\nbind = "{bind}"\n')
    assert invoke("check", str(config)).exit_code == 0
