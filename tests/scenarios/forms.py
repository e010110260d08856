"""Scenarios from their files, and their pins as records of the wire."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.messages import PinRecord, Rank

SCENARIOS = Path(__file__).parents[2] / "protocol" / "scenarios"

Fields = dict[str, Any]


def load(name: str) -> Fields:
    return tomllib.loads((SCENARIOS / f"{name}.toml").read_text(encoding="utf-8"))


def named(scenarios: list[Fields]) -> list[Any]:
    return [pytest.param(scenario, id=scenario["name"]) for scenario in scenarios]


PIN_DEFAULTS: Fields = load("merge")["defaults"]


def key_of(hexadecimal: str) -> SessionKey:
    """A key by its first bytes."""
    return SessionKey(bytes.fromhex(hexadecimal.ljust(32, "0")))


def record(fields: Fields, key: SessionKey) -> PinRecord:
    """What a scenario says of a pin, with the defaults."""
    pin = PIN_DEFAULTS | fields
    return PinRecord(
        key,
        PoolName(pin["pool"]),
        BackendName(pin["backend"]),
        KeySource(pin["by"]),
        pin["epoch"],
        Rank[pin["rank"]],
        pin["stamp_ms"],
        NodeName(pin["claimer"]),
        pin["expires_in_ms"],
        pin["ends_in_ms"],
    )
