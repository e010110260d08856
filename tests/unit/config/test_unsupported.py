from pathlib import Path
from typing import Any

import pytest

from meshlb.cluster.options import ClusterOptions
from meshlb.config import paths
from meshlb.config.loader import parse
from meshlb.config.schema import Settings
from meshlb.config.unsupported import UNSUPPORTED
from tests.unit.config.test_loader import MINIMAL, faults_of


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            MINIMAL + '[[pool.app.sticky]]\nby = "soap"\nname = "{urn:x}Session"\n',
            "pool.app.sticky[0].by",
        ),
    ],
)
def test_what_this_version_cannot_do_is_refused_plainly(text: str, place: str) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith(f"{place}: this version of meshlb does not support ")


def test_strict_mode_is_supported() -> None:
    cluster = f'[cluster]\nname = "shop"\nbind = "127.0.0.1:7946"\nsecrets = ["{"A" * 43}="]\n'
    settings = parse(cluster + 'mode = "strict"\n' + MINIMAL, directory=Path("/nowhere"))
    assert settings.cluster is not None
    assert ClusterOptions.of(settings.cluster).is_strict


def test_a_value_that_no_version_takes_is_one_fault_and_not_two() -> None:
    (fault,) = faults_of(MINIMAL.replace("bind", 'protocol = "htp"\nbind'))
    assert fault == 'listener[0].protocol = "htp": expected one of "http", "tcp", "udp"'


@pytest.mark.parametrize("unsupported", UNSUPPORTED, ids=lambda unsupported: unsupported.pattern)
def test_every_line_of_the_list_is_about_an_option_that_exists(unsupported: Any) -> None:
    place = tuple(0 if part == "*" else part for part in unsupported.pattern.split("."))
    assert paths.at(Settings, place) is not None
