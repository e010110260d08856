"""The container files, read as text: no Docker engine runs where the tests do.

What the image runs is tested in `tests/peers/test_container.py`, through the same entry point.
"""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
NODES = ["lb-1", "lb-2", "lb-3"]


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument of the Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text())
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines if line]


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


@pytest.fixture
def settings() -> dict[str, Any]:
    return tomllib.loads((DOCKER / "node.toml").read_text())


def test_the_image_is_built_in_stages_from_pinned_bases_and_runs_unprivileged() -> None:
    bases = [argument for name, argument in instructions() if name == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"\S+:\d+(\.\d+)*\S*( AS \w+)?", base) for base in bases)
    assert [argument for name, argument in instructions() if name == "USER"] == ["meshlb"]
    assert "ADD" not in dict(instructions())


def test_the_image_is_checked_by_the_command_line_and_stopped_by_sigterm() -> None:
    by_name = dict(instructions())
    assert by_name["HEALTHCHECK"].endswith('CMD ["meshlb", "status"]')
    assert by_name["STOPSIGNAL"] == "SIGTERM"
    # Exec form: a shell in between would swallow SIGTERM.
    assert by_name["ENTRYPOINT"] == '["entrypoint"]'
    assert (DOCKER / "entrypoint.sh").read_text().rstrip().endswith('exec "$@"')


def test_everything_that_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for name, argument in instructions():
        if name == "COPY" and "--from" not in argument:
            for source in shlex.split(argument)[:-1]:
                assert (ROOT / source).exists(), source
                assert source.removeprefix("./") in kept


def test_every_instruction_is_one_that_docker_knows() -> None:
    known = {
        "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL",
        "HEALTHCHECK", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert {name for name, _ in instructions()} <= known


def test_all_nodes_answer_to_the_name_by_which_they_look_for_each_other(
    compose: Any, settings: dict[str, Any]
) -> None:
    assert settings["cluster"]["join"] == ["dns:mesh:7946"]
    for node in NODES:
        assert compose["services"][node]["networks"]["mesh"]["aliases"] == ["mesh"]


def test_the_nodes_know_the_backends_by_the_addresses_that_compose_gives_them(
    compose: Any, settings: dict[str, Any]
) -> None:
    for backend in settings["pool"]["app"]["backend"]:
        service = compose["services"][backend["name"]]
        address = service["networks"]["mesh"]["ipv4_address"]
        assert backend["address"] == f"{address}:9000"
    assert set(compose["services"]) == {
        *NODES,
        *(backend["name"] for backend in settings["pool"]["app"]["backend"]),
    }


def test_nodes_keep_their_pins_on_volumes_and_have_no_other_powers(
    compose: Any, settings: dict[str, Any]
) -> None:
    for node in NODES:
        service = compose["services"][node]
        assert service["volumes"] == [f"{node}:{settings['node']['data_dir']}"]
        assert node in compose["volumes"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        grace_s = int(service["stop_grace_period"].removesuffix("s"))
        assert grace_s > int(settings["node"]["shutdown_timeout"].removesuffix("s"))


def test_the_published_ports_reach_the_listener_and_only_from_this_machine(
    compose: Any, settings: dict[str, Any]
) -> None:
    listener = settings["listener"][0]["bind"].rpartition(":")[2]
    for node in NODES:
        (published,) = compose["services"][node]["ports"]
        assert re.fullmatch(rf"127\.0\.0\.1:\d+:{listener}", published)
