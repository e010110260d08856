"""The schema of the configuration file and its loader."""

from meshlb.config.kinds import DnsSeed, UnixPath
from meshlb.config.loader import load, parse
from meshlb.config.schema import (
    AdminSettings,
    BackendSettings,
    ClusterSettings,
    HealthSettings,
    ListenerSettings,
    NodeSettings,
    PoolSettings,
    Settings,
    StickySettings,
    TimeoutSettings,
)

__all__ = [
    "AdminSettings",
    "BackendSettings",
    "ClusterSettings",
    "DnsSeed",
    "HealthSettings",
    "ListenerSettings",
    "NodeSettings",
    "PoolSettings",
    "Settings",
    "StickySettings",
    "TimeoutSettings",
    "UnixPath",
    "load",
    "parse",
]
